-- The losses as layers, one row each: the layer's name, the operator (whose help has the formula,
-- the shapes and the paper) and its options besides reduction = "mean", "sum" or "none".
-- loss(input, target, ...) passes the operator's tensors in its order. Labels count from 1.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local unpack = require "moonlet.unpack"

local reductions = { { "mean", "sum", "none" }, "mean" }

local rows = {
  -- tensors of one shape
  MSELoss = { "mse_loss" },
  L1Loss = { "l1_loss" },
  SmoothL1Loss = { "smooth_l1_loss", beta = { "number", 1 } },
  HuberLoss = { "huber_loss", delta = { "number", 1 } },
  BCELoss = { "binary_cross_entropy", weight = { "tensor" } },
  BCEWithLogitsLoss = { "binary_cross_entropy_with_logits", weight = { "tensor" },
                        pos_weight = { "tensor" } },
  KLDivLoss = { "kl_div", reduction = { { "mean", "sum", "none", "batchmean" }, "mean" },
                log_target = { "boolean", false } },
  PoissonNLLLoss = { "poisson_nll_loss", log_input = { "boolean", true },
                     full = { "boolean", false }, eps = { "number", 1e-8 } },
  GaussianNLLLoss = { "gaussian_nll_loss", full = { "boolean", false }, eps = { "number", 1e-6 } },
  FocalLoss = { "focal_loss", alpha = { "number", 0.25 }, gamma = { "number", 2 } },
  DiceLoss = { "dice_loss", smooth = { "number", 1 }, squared = { "boolean", false } },

  -- class labels
  CrossEntropyLoss = { "cross_entropy", weight = { "tensor" }, ignore_index = { "integer" },
                       label_smoothing = { "number" } },
  NLLLoss = { "nll_loss", weight = { "tensor" }, ignore_index = { "integer" } },
  CTCLoss = { "ctc_loss", blank = { "integer", 1 }, zero_infinity = { "boolean", false } },
  MultiMarginLoss = { "multi_margin_loss", p = { "integer", 1 }, margin = { "number", 1 },
                      weight = { "tensor" } },
  MultiLabelMarginLoss = { "multilabel_margin_loss" },
  MultiLabelSoftMarginLoss = { "multilabel_soft_margin_loss", weight = { "tensor" } },

  -- signs: 1 and -1
  HingeLoss = { "hinge_loss", margin = { "number", 1 }, squared = { "boolean", false } },
  SoftMarginLoss = { "soft_margin_loss" },
  HingeEmbeddingLoss = { "hinge_embedding_loss", margin = { "number", 1 } },
  MarginRankingLoss = { "margin_ranking_loss", margin = { "number", 0 } },
  CosineEmbeddingLoss = { "cosine_embedding_loss", margin = { "number", 0 } },
  TripletMarginLoss = { "triplet_margin_loss", margin = { "number", 1 }, p = { "number", 2 },
                        eps = { "number", 1e-6 }, swap = { "boolean", false } },

  -- pictures
  TotalVariationLoss = { "total_variation", p = { "integer", 1 } },
}

local function schema_of(row)
  local schema = { reduction = reductions }
  for key, rule in pairs(row) do
    if type(key) == "string" then schema[key] = rule end
  end
  return schema
end

--- nn.MSELoss(options) and the others.
-- @function nn.MSELoss(given)
-- @tparam ?table given the options in the row, reduction = "mean"
-- @usage local loss = moon.nn.HuberLoss { delta = 2, reduction = "sum" }
-- assert(loss(moon.tensor { 1, 0 }, moon.tensor { 0, 4 }):item() == 6.5)
local function make(name, row)
  local Loss = Module:extend(name)
  local operator, schema = row[1], schema_of(row)

  function Loss:init(given)
    local o = options.read(name, given, schema)
    rawset(self, "call_options", o)
    self.reduction = o.reduction
    for key, value in pairs(o) do
      if core.is_tensor(value) then self:register_buffer(key, value) end
    end
  end

  function Loss:forward(...)
    local o, count, arguments = self.call_options, select("#", ...), { ... }
    for key, value in pairs(o) do
      if core.is_tensor(value) then o[key] = self[key] end   -- a buffer may have moved
    end
    arguments[count + 1] = o
    return core[operator](unpack(arguments, 1, count + 1))
  end

  function Loss:describe()
    return self.reduction == "mean" and "" or ('reduction = "%s"'):format(self.reduction)
  end

  return Loss
end

local M = {}
for name, row in pairs(rows) do M[name] = make(name, row) end
return M
