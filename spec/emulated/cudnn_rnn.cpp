// A stand-in of cuDNN's recurrent networks of one layer, cell by cell, in double. It checks what
// the documentation asks of a caller and what a run would not show: that backward passes come in
// their order, on the reserve, input, state and result of their forward pass, that nothing relies
// on where gates lie beside each other, and that nobody reads what is left undefined. See
// stand_in.h.
#include <math.h>

#include <vector>

#include "cudnn_parts.h"

using namespace stand_in;

// -- what descriptors hold

struct cudnnDropoutStruct { bool set; };

struct cudnnRNNStruct {
  bool set, padded, biased;
  cudnnRNNMode_t mode;
  cudnnDataType_t type;
  cudnnMathType_t math;
  int directions, inputs, hidden;
};

struct cudnnRNNDataStruct {
  bool set;
  cudnnDataType_t type;
  cudnnRNNDataLayout_t layout;
  int steps, batch, width;
  std::vector<int> lengths;
};

namespace {

// -- a layer: descriptors, checked against each other

struct layer {
  cudnnRNNMode_t mode;
  moon_dtype type;
  bool biased, coarse;            // coarse: factors of float32 keep 10 bits
  int directions, gates, steps, batch, inputs, hidden;
  std::vector<int> lengths;

  size_t size() const { return dtype_size(type); }
  int width() const { return directions * hidden; }
  int columns(int id) const { return id < gates ? inputs : hidden; }
};

int gates_of(cudnnRNNMode_t mode) { return mode == CUDNN_LSTM ? 4 : mode == CUDNN_GRU ? 3 : 1; }

layer layer_of(const char *call, const cudnnRNNStruct *o, const cudnnRNNDataStruct *x) {
  layer l;
  need(o && o->set && x && x->set, call, "a descriptor that is not set");
  need(o->type == x->type && type_of(o->type, &l.type), call, "data of another type");
  need(x->width == o->inputs, call, "an input of another size than the layer's");
  l.mode = o->mode;
  l.biased = o->biased;
  l.coarse = l.type == MOON_F32 && o->math != CUDNN_FMA_MATH;
  l.directions = o->directions;
  l.gates = gates_of(o->mode);
  l.steps = x->steps;
  l.batch = x->batch;
  l.inputs = o->inputs;
  l.hidden = o->hidden;
  l.lengths = x->lengths;
  bool even = true;
  for (int length : l.lengths) even = even && length == l.steps;
  need(x->layout == CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED ? even : o->padded, call,
       "padding that the layout, or the layer, has not");
  return l;
}

void check_result(const char *call, const layer &l, const cudnnRNNDataStruct *x,
                  const cudnnRNNDataStruct *y) {
  need(y && y->set && y->type == x->type && y->layout == x->layout && y->steps == x->steps &&
           y->batch == x->batch && y->lengths == x->lengths && y->width == l.width(), call,
       "a result that does not belong to the input");
}

void check_state(const char *call, const layer &l, cudnnDataType_t type,
                 const cudnnTensorStruct *t) {
  const int size[3] = { l.directions, l.batch, l.hidden };
  const int stride[3] = { l.batch * l.hidden, l.hidden, 1 };
  need(t && t->set && t->ndim == 3 && t->type == type, call, "a state that is not 3-d");
  for (int i = 0; i < 3; i++)
    need(t->size[i] == size[i] && t->stride[i] == stride[i], call,
         "a state of another size, or not packed");
}

// -- weights: in an order of their own, apart from each other, biases last

int64_t space_of(const layer &l, int id) {
  return ((int64_t)l.hidden * l.columns(id) * (int64_t)l.size() + 31) / 16 * 16;
}

int64_t bias_space(const layer &l) { return (l.hidden * (int64_t)l.size() + 31) / 16 * 16; }

int64_t place_of(const layer &l, int direction, int id, bool bias) {
  int64_t at = 0, all = 0;
  for (int i = 0; i < 2 * l.gates; i++) all += space_of(l, i);
  if (bias) return l.directions * all + (direction * 2 * l.gates + id) * bias_space(l);
  for (int i = 2 * l.gates - 1; i > id; i--) at += space_of(l, i);
  return (l.directions - 1 - direction) * all + at;
}

size_t weight_bytes(const layer &l) {
  return (size_t)place_of(l, l.directions, 0, true);
}

// -- the reserve: a head, then for each direction, step and sequence the gates and one line more,
//    which is c of an LSTM and the state's part of the new memory of a GRU

enum stage { FORWARD_DONE = 1, DATA_DONE = 2 };

struct reserve_head {
  double layer, stage, x, y, h;      // sums tell that arrays are those of the forward pass
};

size_t reserve_bytes(const layer &l) {
  return sizeof(reserve_head) + (size_t)l.directions * (size_t)l.steps * (size_t)l.batch *
                                    (size_t)(l.gates + 1) * (size_t)l.hidden * sizeof(double);
}

double number_of(const layer &l) {
  return (((l.steps * 31.0 + l.batch) * 31 + l.inputs) * 31 + l.hidden) * 31 + l.mode * 8 +
         l.directions * 4 + l.type;
}

struct arrays {
  const void *x, *hx, *cx, *weights, *dy, *dhy, *dcy;
  void *y, *hy, *cy, *dx, *dhx, *dcx, *dweights, *reserve;
};

// What a pass over the cells sees.
struct run {
  const layer &l;
  const arrays &a;

  double *line(int d, int t, int n, int gate) const {
    size_t cell = ((size_t)d * (size_t)l.steps + (size_t)t) * (size_t)l.batch + (size_t)n;
    return (double *)((reserve_head *)a.reserve + 1) +
           (cell * (size_t)(l.gates + 1) + (size_t)gate) * (size_t)l.hidden;
  }
  double rounded(double factor) const { return l.coarse ? tf32(factor) : factor; }
  double weight(int d, int id, int row, int column) const {
    return rounded(load(l.type, (const char *)a.weights + place_of(l, d, id, false),
                        (int64_t)row * l.columns(id) + column));
  }
  double bias(int d, int id, int row) const {
    return l.biased ? load(l.type, (const char *)a.weights + place_of(l, d, id, true), row) : 0;
  }
  int64_t at_x(int t, int n) const { return ((int64_t)t * l.batch + n) * l.inputs; }
  int64_t at_y(int d, int t, int n) const {
    return ((int64_t)t * l.batch + n) * l.width() + d * l.hidden;
  }
  int64_t at_h(int d, int n) const { return ((int64_t)d * l.batch + n) * l.hidden; }
  double state(const void *data, int d, int n, int j) const {
    return data ? load(l.type, data, at_h(d, n) + j) : 0;
  }
  // The step of a direction that comes i-th, and whether one came before it.
  int step(int d, int n, int i) const { return d == 0 ? i : l.lengths[(size_t)n] - 1 - i; }
  double before(int d, int n, int i, int j) const {
    return i == 0 ? state(a.hx, d, n, j) : load(l.type, a.y, at_y(d, step(d, n, i - 1), n) + j);
  }
  double cell_before(int d, int n, int i, int j) const {
    return i == 0 ? state(a.cx, d, n, j) : line(d, step(d, n, i - 1), n, l.gates)[j];
  }
};

double sigmoid(double x) { return 1 / (1 + exp(-x)); }

// -- forward

double project(const run &r, int d, int n, int i, int id, int row) {
  double sum = r.bias(d, id, row);
  for (int k = 0; k < r.l.columns(id); k++) {
    double factor = id < r.l.gates
                        ? load(r.l.type, r.a.x, r.at_x(r.step(d, n, i), n) + k)
                        : r.before(d, n, i, k);
    sum += r.weight(d, id, row, k) * r.rounded(factor);
  }
  return sum;
}

// One unit of a cell; keeps its gates and gives h.
double unit(const run &r, int d, int n, int i, int j) {
  const int gates = r.l.gates, t = r.step(d, n, i);
  double in[4], back[4], kept[5] = {}, h;
  for (int g = 0; g < gates; g++) {
    in[g] = project(r, d, n, i, g, j);
    back[g] = project(r, d, n, i, gates + g, j);
  }
  if (r.l.mode == CUDNN_LSTM) {
    for (int g = 0; g < 4; g++)
      kept[g] = g == 2 ? tanh(in[g] + back[g]) : sigmoid(in[g] + back[g]);
    kept[4] = kept[1] * r.cell_before(d, n, i, j) + kept[0] * kept[2];
    h = kept[3] * tanh(kept[4]);
  } else if (r.l.mode == CUDNN_GRU) {
    kept[0] = sigmoid(in[0] + back[0]);
    kept[1] = sigmoid(in[1] + back[1]);
    kept[2] = tanh(in[2] + kept[0] * back[2]);
    kept[3] = back[2];
    h = (1 - kept[1]) * kept[2] + kept[1] * r.before(d, n, i, j);
  } else {
    h = in[0] + back[0];
    h = r.l.mode == CUDNN_RNN_TANH ? tanh(h) : h > 0 ? h : 0;
    kept[0] = h;
  }
  for (int g = 0; g <= gates; g++) r.line(d, t, n, g)[j] = kept[g];
  return h;
}

double sum_of(const layer &l, const void *data, int width) {
  double sum = 0;
  for (int n = 0; n < l.batch; n++)
    for (int t = 0; t < l.lengths[(size_t)n]; t++)
      for (int k = 0; k < width; k++)
        sum += load(l.type, data, ((int64_t)t * l.batch + n) * width + k);
  return sum;
}

double sum_of_state(const layer &l, const void *data) {
  double sum = 0;
  for (int64_t i = 0; data && i < (int64_t)l.width() * l.batch; i++) sum += load(l.type, data, i);
  return sum;
}

// Rows behind the end of a sequence are undefined.
void spoil_padding(const layer &l, void *data, int width) {
  for (int n = 0; n < l.batch; n++)
    for (int t = l.lengths[(size_t)n]; t < l.steps; t++)
      for (int k = 0; k < width; k++)
        store(l.type, data, ((int64_t)t * l.batch + n) * width + k, NAN);
}

void forward(const layer &l, const arrays &a) {
  std::vector<char> own(a.reserve ? 0 : reserve_bytes(l));
  arrays with = a;
  if (!a.reserve) with.reserve = own.data();
  const run r = { l, with };
  for (int d = 0; d < l.directions; d++)
    for (int n = 0; n < l.batch; n++)
      for (int i = 0; i < l.lengths[(size_t)n]; i++) {
        const int t = r.step(d, n, i);
        for (int j = 0; j < l.hidden; j++)
          store(l.type, a.y, r.at_y(d, t, n) + j, unit(r, d, n, i, j));
        if (i + 1 < l.lengths[(size_t)n]) continue;
        for (int j = 0; j < l.hidden; j++) {
          store(l.type, a.hy, r.at_h(d, n) + j, load(l.type, a.y, r.at_y(d, t, n) + j));
          if (a.cy) store(l.type, a.cy, r.at_h(d, n) + j, r.line(d, t, n, l.gates)[j]);
        }
      }
  *(reserve_head *)with.reserve = { number_of(l), FORWARD_DONE, sum_of(l, a.x, l.inputs),
                                    sum_of(l, a.y, l.width()), sum_of_state(l, a.hx) };
  spoil_padding(l, a.y, l.width());
}

// -- backward: gates in the reserve give way to the gradients of what went into them

bool same(double a, double b) { return a == b || isnan(a) || isnan(b); }

void check_reserve(const char *call, const layer &l, const arrays &a, stage wanted) {
  const reserve_head *head = (const reserve_head *)a.reserve;
  need(head->layer == number_of(l), call, "a reserve that is not of this layer's forward pass");
  need(head->stage == wanted, call, "a reserve that is not where it should be: each backward pass "
       "comes once, data before weights");
  need(same(head->y, sum_of(l, a.y, l.width())) && same(head->h, sum_of_state(l, a.hx)) &&
           (!a.x || same(head->x, sum_of(l, a.x, l.inputs))), call,
       "arrays that are not those of the forward pass");
}

struct carried { double h, c; };

// One unit of a cell: `from` comes from later steps and h has y's gradient, too; gives what goes
// straight to the state before.
carried unit_back(const run &r, int d, int n, int i, int j, carried from) {
  const int t = r.step(d, n, i);
  double g[5];
  for (int k = 0; k <= r.l.gates; k++) g[k] = r.line(d, t, n, k)[j];
  auto put = [&](int k, double value) { r.line(d, t, n, k)[j] = value; };
  if (r.l.mode == CUDNN_LSTM) {
    const double shown = tanh(g[4]), dc = from.c + from.h * g[3] * (1 - shown * shown);
    put(0, dc * g[2] * g[0] * (1 - g[0]));
    put(1, dc * r.cell_before(d, n, i, j) * g[1] * (1 - g[1]));
    put(2, dc * g[0] * (1 - g[2] * g[2]));
    put(3, from.h * shown * g[3] * (1 - g[3]));
    return { 0, dc * g[1] };
  }
  if (r.l.mode == CUDNN_GRU) {
    const double dn = from.h * (1 - g[1]) * (1 - g[2] * g[2]);
    put(0, dn * g[3] * g[0] * (1 - g[0]));
    put(1, from.h * (r.before(d, n, i, j) - g[2]) * g[1] * (1 - g[1]));
    put(2, dn);
    put(3, dn * g[0]);   // of the state's part
    return { from.h * g[1], 0 };
  }
  put(0, r.l.mode == CUDNN_RNN_TANH ? from.h * (1 - g[0] * g[0]) : g[0] > 0 ? from.h : 0);
  return { 0, 0 };
}

// The gradient of what a product gave; that of the state's part of a GRU's memory lies apart.
double gradient_of(const run &r, int d, int t, int n, int id, int row) {
  const int gates = r.l.gates, gate = id % gates;
  bool apart = r.l.mode == CUDNN_GRU && id == 2 * gates - 1;
  return r.line(d, t, n, apart ? gates : gate)[row];
}

double through(const run &r, int d, int t, int n, bool state, int column) {
  double sum = 0;
  for (int g = 0; g < r.l.gates; g++) {
    const int id = state ? r.l.gates + g : g;
    for (int row = 0; row < r.l.hidden; row++)
      sum += r.weight(d, id, row, column) * r.rounded(gradient_of(r, d, t, n, id, row));
  }
  return sum;
}

void sequence_back(const run &r, int d, int n) {
  const layer &l = r.l;
  const arrays &a = r.a;
  std::vector<carried> carry((size_t)l.hidden);
  for (int j = 0; j < l.hidden; j++)
    carry[(size_t)j] = { r.state(a.dhy, d, n, j), r.state(a.dcy, d, n, j) };
  for (int i = l.lengths[(size_t)n] - 1; i >= 0; i--) {
    const int t = r.step(d, n, i);
    for (int j = 0; j < l.hidden; j++) {
      carried from = carry[(size_t)j];
      from.h += load(l.type, a.dy, r.at_y(d, t, n) + j);
      carry[(size_t)j] = unit_back(r, d, n, i, j, from);
    }
    for (int j = 0; j < l.hidden; j++) carry[(size_t)j].h += through(r, d, t, n, true, j);
  }
  for (int j = 0; j < l.hidden; j++) {
    if (a.dhx) store(l.type, a.dhx, r.at_h(d, n) + j, carry[(size_t)j].h);
    if (a.dcx) store(l.type, a.dcx, r.at_h(d, n) + j, carry[(size_t)j].c);
  }
}

void backward_data(const layer &l, const arrays &a) {
  const run r = { l, a };
  check_reserve("cudnnRNNBackwardData_v8", l, a, FORWARD_DONE);
  for (int d = 0; d < l.directions; d++)
    for (int n = 0; n < l.batch; n++) sequence_back(r, d, n);
  for (int n = 0; n < l.batch; n++)
    for (int t = 0; t < l.lengths[(size_t)n]; t++)
      for (int k = 0; k < l.inputs; k++) {
        double sum = 0;
        for (int d = 0; d < l.directions; d++) sum += through(r, d, t, n, false, k);
        store(l.type, a.dx, r.at_x(t, n) + k, sum);
      }
  spoil_padding(l, a.dx, l.inputs);
  ((reserve_head *)a.reserve)->stage = DATA_DONE;
}

// Adds to one number of the weights' gradients.
void add(const run &r, int64_t place, int64_t i, double value) {
  char *at = (char *)r.a.dweights + place;
  store(r.l.type, at, i, load(r.l.type, at, i) + value);
}

void row_of_weights(const run &r, int d, int id, int row) {
  const layer &l = r.l;
  for (int column = -1; column < l.columns(id); column++) {   // -1: the bias
    double sum = 0;
    for (int n = 0; n < l.batch; n++)
      for (int i = 0; i < l.lengths[(size_t)n]; i++) {
        const int t = r.step(d, n, i);
        double factor = column < 0     ? 1
                        : id < l.gates ? load(l.type, r.a.x, r.at_x(t, n) + column)
                                       : r.before(d, n, i, column);
        sum += gradient_of(r, d, t, n, id, row) * factor;
      }
    if (column >= 0)
      add(r, place_of(l, d, id, false), (int64_t)row * l.columns(id) + column, sum);
    else if (l.biased) add(r, place_of(l, d, id, true), row, sum);
  }
}

void backward_weights(const layer &l, const arrays &a) {
  const run r = { l, a };
  check_reserve("cudnnRNNBackwardWeights_v8", l, a, DATA_DONE);
  for (int d = 0; d < l.directions; d++)
    for (int id = 0; id < 2 * l.gates; id++)
      for (int row = 0; row < l.hidden; row++) row_of_weights(r, d, id, row);
  memset(a.reserve, 0x5A, reserve_bytes(l));   // spent
}

// -- what all three calls check

struct spaces { size_t weights; void *work; size_t work_bytes, reserve; };

void check_array(const char *call, cudnnHandle_t handle, const void *at, size_t bytes,
                 bool optional) {
  if (optional && !at) return;
  need(at && aligned(at, 16) && handle->on->owns(at, bytes), call,
       "an array that is not the device's, or does not lie on 16 bytes");
}

size_t work_of(const layer &l) { return (size_t)(l.steps * l.batch * l.width()) * l.size(); }

void check_call(const char *call, cudnnHandle_t handle, const layer &l, const int32_t *lengths,
                const arrays &a, const spaces &s, bool training) {
  const size_t rows = (size_t)l.steps * (size_t)l.batch * l.size();
  const size_t state = (size_t)l.batch * (size_t)l.width() * l.size();
  need(handle && handle->on, call, "a handle without a stream");
  need(lengths == nullptr, call, "lengths on the device, which cuDNN 9 does without");
  if (a.x) check_array(call, handle, a.x, rows * (size_t)l.inputs, false);
  check_array(call, handle, a.y, rows * (size_t)l.width(), false);
  for (const void *at : { a.hx, a.cx, a.dhy, a.dcy, (const void *)a.hy, (const void *)a.cy,
                          (const void *)a.dhx, (const void *)a.dcx })
    check_array(call, handle, at, state, true);
  const void *weights = a.dweights ? a.dweights : a.weights;
  need(s.weights >= weight_bytes(l), call, "a space too small for its weights");
  check_array(call, handle, weights, weight_bytes(l), false);
  need_workspace(handle->on, call, s.work, s.work_bytes, work_of(l));
  if (!training) return;
  need(s.reserve >= reserve_bytes(l), call, "less reserve than it needs");
  check_array(call, handle, a.reserve, reserve_bytes(l), false);
}

void check_cell(const char *call, const layer &l, cudnnDataType_t type, const cudnnTensorStruct *c,
                std::initializer_list<const void *> states) {
  if (l.mode == CUDNN_LSTM) return check_state(call, l, type, c);
  for (const void *state : states) need(!state, call, "a cell's state, which only an LSTM has");
}

template <typename Fn>
cudnnStatus_t put(const char *call, cudnnHandle_t handle, const layer &l, const arrays &a,
                  const spaces &s, Fn fn) {
  if (faulty(call, "refuses")) return CUDNN_STATUS_NOT_SUPPORTED;
  if (faulty(call, "fails")) return CUDNN_STATUS_EXECUTION_FAILED;
  handle->on->put([=] {
    memset(s.work, 0x5A, s.work_bytes);
    fn(l, a);
    return 0;
  });
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t plan(const char *call) {
  if (faulty(call, "refuses")) return CUDNN_STATUS_NOT_SUPPORTED;
  return faulty(call, "fails") ? CUDNN_STATUS_INTERNAL_ERROR : CUDNN_STATUS_SUCCESS;
}

}  // namespace

// -- the library's functions

DESCRIPTOR(DropoutDescriptor)
DESCRIPTOR(RNNDescriptor)
DESCRIPTOR(RNNDataDescriptor)

STAND_IN cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t d, cudnnHandle_t handle,
                                                 float dropout, void *states, size_t bytes,
                                                 unsigned long long) {
  need(handle && dropout == 0 && !states && bytes == 0, __func__,
       "a dropout, which this stand-in has not");
  d->set = true;
  return CUDNN_STATUS_SUCCESS;
}

STAND_IN cudnnStatus_t cudnnSetRNNDescriptor_v8(
    cudnnRNNDescriptor_t o, cudnnRNNAlgo_t algo, cudnnRNNMode_t mode, cudnnRNNBiasMode_t bias,
    cudnnDirectionMode_t directions, cudnnRNNInputMode_t input, cudnnDataType_t type,
    cudnnDataType_t compute, cudnnMathType_t math, int32_t inputs, int32_t hidden,
    int32_t projection, int32_t layers, cudnnDropoutDescriptor_t dropout, uint32_t flags) {
  bool wide = type == CUDNN_DATA_DOUBLE;
  need(algo == CUDNN_RNN_ALGO_STANDARD && input == CUDNN_LINEAR_INPUT && layers == 1, __func__,
       "a network that this stand-in has not");
  need(type != CUDNN_DATA_BFLOAT16 || cudnnGetVersion() >= DNN_BFLOAT_RNN, __func__,
       "a type that this version has not");
  need(bias == CUDNN_RNN_NO_BIAS || bias == CUDNN_RNN_DOUBLE_BIAS, __func__,
       "biases that this stand-in has not");
  need(inputs > 0 && hidden > 0 && projection == hidden, __func__,
       "a size below 1, or a projection");
  need(compute == (wide ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT), __func__,
       "a type of calculation that is not the data's");
  need(!wide || math == CUDNN_DEFAULT_MATH, __func__, "tensor cores for double");
  need(dropout && dropout->set, __func__, "a dropout that is not set");
  need(flags == CUDNN_RNN_PADDED_IO_DISABLED || flags == CUDNN_RNN_PADDED_IO_ENABLED, __func__,
       "flags that there are not");
  *o = { true, flags == CUDNN_RNN_PADDED_IO_ENABLED, bias == CUDNN_RNN_DOUBLE_BIAS, mode, type,
         math, directions == CUDNN_BIDIRECTIONAL ? 2 : 1, inputs, hidden };
  return plan(__func__);
}

STAND_IN cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t d, cudnnDataType_t type,
                                                 cudnnRNNDataLayout_t layout, int steps, int batch,
                                                 int width, const int *lengths, void *fill) {
  need(steps > 0 && batch > 0 && width > 0 && lengths, __func__, "a size below 1, or no lengths");
  need(layout != CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED && !fill, __func__,
       "a layout or a filling that this stand-in has not");
  *d = { true, type, layout, steps, batch, width, std::vector<int>(lengths, lengths + batch) };
  for (int length : d->lengths)
    need(length >= 1 && length <= steps, __func__, "a sequence longer than all, or empty");
  return plan(__func__);
}

STAND_IN cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t, cudnnRNNDescriptor_t o,
                                                 cudnnForwardMode_t mode,
                                                 cudnnRNNDataDescriptor_t x, size_t *work,
                                                 size_t *reserve) {
  const layer l = layer_of(__func__, o, x);
  trace(__func__, mode);
  *work = work_of(l);
  *reserve = mode == CUDNN_FWD_MODE_TRAINING ? reserve_bytes(l) : 0;
  return plan(__func__);
}

// A layer as far as its weights go.
static layer weights_of(const char *call, const cudnnRNNStruct *o) {
  need(o && o->set, call, "a descriptor that is not set");
  cudnnRNNDataStruct x = { true, o->type, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, 1, 1, o->inputs,
                           { 1 } };
  return layer_of(call, o, &x);
}

STAND_IN cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t, cudnnRNNDescriptor_t o,
                                                  size_t *bytes) {
  *bytes = weight_bytes(weights_of(__func__, o));
  return plan(__func__);
}

STAND_IN cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t handle, cudnnRNNDescriptor_t o,
                                               int32_t direction, size_t bytes, const void *space,
                                               int32_t id, cudnnTensorDescriptor_t matrix,
                                               void **weights, cudnnTensorDescriptor_t bias,
                                               void **biases) {
  const layer l = weights_of(__func__, o);
  need(bytes >= weight_bytes(l) && handle->on->owns(space, bytes), __func__,
       "a space that is not the device's, or too small");
  need(direction >= 0 && direction < l.directions && id >= 0 && id < 2 * l.gates, __func__,
       "a matrix that there is not");
  need(matrix && bias, __func__, "no descriptors");
  *matrix = { true, o->type, 3, { 1, l.hidden, l.columns(id) }, { l.hidden * l.columns(id),
              l.columns(id), 1 } };
  *bias = { l.biased, o->type, 3, { 1, l.hidden, 1 }, { l.hidden, 1, 1 } };
  *weights = (char *)space + place_of(l, direction, id, false);
  *biases = l.biased ? (char *)space + place_of(l, direction, id, true) : nullptr;
  return plan(__func__);
}

STAND_IN cudnnStatus_t cudnnRNNForward(
    cudnnHandle_t handle, cudnnRNNDescriptor_t o, cudnnForwardMode_t mode, const int32_t *lengths,
    cudnnRNNDataDescriptor_t x, const void *x_data, cudnnRNNDataDescriptor_t y, void *y_data,
    cudnnTensorDescriptor_t h, const void *hx, void *hy, cudnnTensorDescriptor_t c, const void *cx,
    void *cy, size_t weight_size, const void *weights, size_t work_size, void *work,
    size_t reserve_size, void *reserve) {
  const layer l = layer_of(__func__, o, x);
  const bool training = mode == CUDNN_FWD_MODE_TRAINING;
  arrays a = {};
  a.x = x_data;
  a.hx = hx;
  a.cx = cx;
  a.weights = weights;
  a.y = y_data;
  a.hy = hy;
  a.cy = cy;
  a.reserve = reserve;
  const spaces s = { weight_size, work, work_size, reserve_size };
  trace(__func__, mode);
  check_result(__func__, l, x, y);
  check_state(__func__, l, o->type, h);
  check_cell(__func__, l, o->type, c, { cx, cy });
  need(x_data && hy && (training || !reserve), __func__,
       "no input or last state, or a reserve of no training");
  check_call(__func__, handle, l, lengths, a, s, training);
  return put(__func__, handle, l, a, s, forward);
}

STAND_IN cudnnStatus_t cudnnRNNBackwardData_v8(
    cudnnHandle_t handle, cudnnRNNDescriptor_t o, const int32_t *lengths,
    cudnnRNNDataDescriptor_t y, const void *y_data, const void *dy, cudnnRNNDataDescriptor_t x,
    void *dx, cudnnTensorDescriptor_t h, const void *hx, const void *dhy, void *dhx,
    cudnnTensorDescriptor_t c, const void *cx, const void *dcy, void *dcx, size_t weight_size,
    const void *weights, size_t work_size, void *work, size_t reserve_size, void *reserve) {
  const layer l = layer_of(__func__, o, x);
  const size_t rows = (size_t)l.steps * (size_t)l.batch * l.size();
  arrays a = {};
  a.hx = hx;
  a.cx = cx;
  a.weights = weights;
  a.dy = dy;
  a.dhy = dhy;
  a.dcy = dcy;
  a.y = (void *)y_data;
  a.dx = dx;
  a.dhx = dhx;
  a.dcx = dcx;
  a.reserve = reserve;
  const spaces s = { weight_size, work, work_size, reserve_size };
  trace(__func__, 0);
  check_result(__func__, l, x, y);
  check_state(__func__, l, o->type, h);
  check_cell(__func__, l, o->type, c, { cx, dcy, dcx });
  check_array(__func__, handle, dy, rows * (size_t)l.width(), false);
  check_array(__func__, handle, dx, rows * (size_t)l.inputs, false);
  check_call(__func__, handle, l, lengths, a, s, true);
  return put(__func__, handle, l, a, s, backward_data);
}

STAND_IN cudnnStatus_t cudnnRNNBackwardWeights_v8(
    cudnnHandle_t handle, cudnnRNNDescriptor_t o, cudnnWgradMode_t mode, const int32_t *lengths,
    cudnnRNNDataDescriptor_t x, const void *x_data, cudnnTensorDescriptor_t h, const void *hx,
    cudnnRNNDataDescriptor_t y, const void *y_data, size_t weight_size, void *dweights,
    size_t work_size, void *work, size_t reserve_size, void *reserve) {
  const layer l = layer_of(__func__, o, x);
  arrays a = {};
  a.x = x_data;
  a.hx = hx;
  a.y = (void *)y_data;
  a.dweights = dweights;
  a.reserve = reserve;
  const spaces s = { weight_size, work, work_size, reserve_size };
  trace(__func__, 0);
  need(mode == CUDNN_WGRAD_MODE_ADD, __func__, "a mode that is not supported: it adds");
  check_result(__func__, l, x, y);
  check_state(__func__, l, o->type, h);
  need(x_data && dweights, __func__, "no input or no place for the gradients");
  check_call(__func__, handle, l, lengths, a, s, true);
  return put(__func__, handle, l, a, s, backward_weights);
}
