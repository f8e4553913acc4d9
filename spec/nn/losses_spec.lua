-- Losses as layers: each passes its tensors and options to its operator.
local moon = require "moonlet"
local naive = require "spec.support.naive"
local nn = moon.nn

local function labels(list) return moon.tensor(list, { dtype = "int64" }) end

describe("losses", function()
  local x, y = moon.randn(4, 3), moon.randn(4, 3)
  local p, t = moon.rand(4, 3), moon.rand(4, 3):gt(0.5):float()
  local classes, signs = labels { 1, 3, 2, 2 }, moon.tensor { 1, -1, -1, 1 }
  local matrix = moon.randn(4, 3):sign()
  local ctc = { moon.randn(5, 2, 4):log_softmax(3), labels { { 2, 3 }, { 4, 4 } }, labels { 5, 5 },
                labels { 2, 2 } }

  -- layer: its operator, an option to try, the tensors
  local rows = {
    MSELoss = { "mse_loss", {}, x, y },
    L1Loss = { "l1_loss", {}, x, y },
    SmoothL1Loss = { "smooth_l1_loss", { beta = 0.3 }, x, y },
    HuberLoss = { "huber_loss", { delta = 0.3 }, x, y },
    BCELoss = { "binary_cross_entropy", { weight = moon.tensor { 1, 2, 3 } }, p, t },
    BCEWithLogitsLoss = { "binary_cross_entropy_with_logits",
                          { pos_weight = moon.tensor { 1, 2, 3 } }, x, t },
    KLDivLoss = { "kl_div", { log_target = true }, x, y },
    PoissonNLLLoss = { "poisson_nll_loss", { full = true }, x, p },
    GaussianNLLLoss = { "gaussian_nll_loss", { full = true }, x, y, p },
    FocalLoss = { "focal_loss", { gamma = 1 }, x, t },
    DiceLoss = { "dice_loss", { squared = true }, p, t },
    CrossEntropyLoss = { "cross_entropy", { label_smoothing = 0.1 }, x, classes },
    NLLLoss = { "nll_loss", { ignore_index = 2 }, x:log_softmax(2), classes },
    MultiMarginLoss = { "multi_margin_loss", { p = 2 }, x, classes },
    MultiLabelMarginLoss = { "multilabel_margin_loss", {}, x[{ { 1, 2 } }],
                             labels { { 1, 0, 0 }, { 2, 3, 0 } } },
    MultiLabelSoftMarginLoss = { "multilabel_soft_margin_loss", {}, x, t },
    HingeLoss = { "hinge_loss", { squared = true }, x, matrix },
    SoftMarginLoss = { "soft_margin_loss", {}, x, matrix },
    HingeEmbeddingLoss = { "hinge_embedding_loss", { margin = 2 }, x, matrix },
    MarginRankingLoss = { "margin_ranking_loss", { margin = 0.5 }, x, y, matrix },
    CosineEmbeddingLoss = { "cosine_embedding_loss", { margin = 0.1 }, x, y, signs },
    TripletMarginLoss = { "triplet_margin_loss", { swap = true }, x, y, p },
    TotalVariationLoss = { "total_variation", { p = 2 }, x },
    CTCLoss = { "ctc_loss", { zero_infinity = true }, (table.unpack or unpack)(ctc) },
  }

  local function call(f, row, options)
    local arguments = { (table.unpack or unpack)(row, 3) }
    arguments[#arguments + 1] = options
    return f((table.unpack or unpack)(arguments))
  end

  for layer, row in pairs(rows) do
    it(layer .. " is " .. row[1], function()
      naive.close(call(nn[layer](), row), call(moon[row[1]], row):item(), 1e-6)
      row[2].reduction = "sum"
      naive.close(call(nn[layer](row[2]), row), call(moon[row[1]], row, row[2]):item(), 1e-6)
      assert.equal(layer .. '(reduction = "sum")', tostring(nn[layer](row[2])))
    end)
  end

  it("are all here", function()
    for name in pairs(require "moonlet.nn.losses") do assert.is_table(rows[name], name) end
  end)

  it("keep weights as buffers that move with them", function()
    local weight = moon.tensor { 1, 2, 3 }
    local loss = nn.CrossEntropyLoss { weight = weight }
    naive.close(loss(x, classes), moon.cross_entropy(x, classes, { weight = weight }), 1e-6)
    assert.equal(weight, select(2, loss:named_buffers()()))
    loss:to "float64"
    naive.close(loss(x:double(), classes),
      moon.cross_entropy(x:double(), classes, { weight = weight:double() }))
  end)

  it("refuse options that are none", function()
    naive.fails('there is no option "weigth", did you mean "weight"', nn.NLLLoss,
      { weigth = moon.ones(3) })
    naive.fails('KLDivLoss: reduction must be one of "mean", "sum", "none", "batchmean"',
      nn.KLDivLoss, { reduction = "max" })
  end)

  it("take soft targets", function()
    local soft = moon.randn(4, 3):softmax(2)
    naive.close(nn.CrossEntropyLoss()(x, soft), moon.cross_entropy(x, soft))
  end)
end)
