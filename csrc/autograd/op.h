// What an operator is, and the one path every operator call takes.
//
// A descriptor states an operator once: name, schema, documentation, forward, backward. From it
// follow the Lua function and method, argument checking, help, the reference and the tape entry.
//
// Schema grammar, one string:
//   "(input: Tensor, weight: Tensor, bias: Tensor?, stride: int[2] = 1) -> out, [mask]"
// Parameter types:
//   Tensor          a tensor
//   Tensor?         a tensor or nothing
//   Tensor[]        a list of tensors
//   Tensor|Tensor[] the same, or one tensor as a list of one
//   Tensor|number   a tensor; a number becomes a 0-d tensor of the first tensor's dtype
//   int, number, bool, string, dtype, device
//   int?, number?, dtype?, ...   the same or nothing
//   int[2], int[3]  a number for all, or a list of two, three; int[1]: a list of one
//   pads[2]         what is added round two dimensions (pads[1], pads[3] alike): a number for every
//                   side, a list of one number or {before, after} a dimension, or a word: "same",
//                   "valid", "full". Arrives as one number, one a dimension, or before and after
//                   of each in turn
//   int[]           a list of at most MOON_MAX_DIMS integers; also varargs, unless dims follow
//   dim             a dimension: 1-based or negative outside, 0-based or negative in here
//   dim?            the same or nothing
//   dims            a list of dimensions, one, or nothing (= all)
//   index           a position: 1-based or negative (from the end) outside; 0-based or so here
//   "a"|"b"         a choice; arrives as its number, 0 for the first
// Results in [brackets] are kept for the backward pass and not given to the user.
#ifndef MOON_AUTOGRAD_OP_H
#define MOON_AUTOGRAD_OP_H

#include "tensor/tensor.h"

enum { OP_MAX_PARAMS = 16, OP_MAX_RESULTS = 4, OP_MAX_CHOICES = 8 };

typedef enum op_kind {
  OP_TENSOR, OP_TENSORS, OP_SCALAR_OR_TENSOR, OP_INT, OP_NUMBER, OP_BOOL, OP_STRING, OP_DTYPE,
  OP_DEVICE, OP_INTS, OP_DIM, OP_DIMS, OP_INDEX, OP_CHOICE, OP_PADS,
} op_kind;

typedef enum op_pads_word {
  OP_PADS_NUMBERS, OP_PADS_SAME, OP_PADS_VALID, OP_PADS_FULL,
} op_pads_word;

// One argument. `given` is false for an optional argument that was left out.
typedef struct op_value {
  bool given;
  union {
    moon_tensor *tensor;                                     // borrowed during a call
    struct { moon_tensor **list; int count; } tensors;
    int64_t integer;                                         // int, dim, index, choice
    double number;
    bool boolean;
    const char *string;
    moon_dtype dtype;
    const moon_device *device;
    // int[2], int[3], int[], dims, pads; `word` (an op_pads_word) is that of pads
    struct { int count, word; int64_t v[MOON_MAX_DIMS]; } ints;
  };
} op_value;

// -- a forward call. results[i] are filled, owned by the call's maker.
typedef struct op_call {
  moon_engine *engine;
  struct op_descriptor *op;
  op_value *args;                                            // in schema order
  moon_tensor *results[OP_MAX_RESULTS];
  moon_tensor **list;                                        // for "-> Tensor[]", with list_count
  int list_count;
  bool inplace;          // results[0] is already set: an alias of args[0] to be written into
  bool recording;        // a gradient will be wanted: results kept for backward must be made
} op_call;

// -- a backward call. Tensors that .saves does not name are NULL in args (given stays true);
//    their shape and dtype are in inputs[i].
typedef struct op_input {
  bool is_tensor;
  moon_dtype dtype;
  const moon_device *device;
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
} op_input;

typedef struct op_backward_call {
  moon_engine *engine;
  struct op_descriptor *op;
  const op_value *args;
  const op_input *inputs;            // one a parameter (for Tensor[]: none, see list_inputs)
  const op_input *list_inputs;       // one a member of the Tensor[] parameter, if there is one
  moon_tensor **results;             // saved results, NULL if not in .saves
  moon_tensor **grads;               // gradient of each result; NULL where nothing flowed
  const bool *needs;                 // per parameter: is its gradient wanted?
  const bool *list_needs;            // per member of the Tensor[] parameter
  moon_tensor **out;                 // per parameter: its gradient, the caller's; NULL = zero
  moon_tensor **list_out;            // per member
  struct tape_node *node;            // whose turn it is
  bool retained;                     // another backward will want what was saved as it is
} op_backward_call;
// A gradient may have the shape of the broadcast result: it is summed to the input's shape.
//
// engine->grad_enabled is true in a backward exactly when a graph of the gradient is wanted. The
// tensors in args, results and grads are then on the tape, so that operators run on them record
// the gradient's own gradient; kernels do not, and a backward that runs those takes another path
// then (ops/compose.h), or carries OP_ONCE.

// The gradient of results[0] to be written over and given on as an input's, where nobody else
// holds it; the call no longer has it then. NULL where it must stay as it is.
moon_tensor *op_take_gradient(op_backward_call *call);

typedef enum op_flag {
  OP_INPLACE = 1,      // has an in-place form, name with "_" appended
  OP_COMPOSITE = 2,    // made of other operators: no tape entry of its own
  OP_VIEW = 4,         // results share the input's storage
  OP_MUTATES = 8,      // writes into its first argument (an alias is results[0], unless that is
                       // a list); no other form
  OP_FUNCTION_ONLY = 16,   // moon.name(...), no method
  OP_METHOD_ONLY = 32,     // t:name(...), no function
  OP_HIDDEN = 64,          // reached through other means (indexing); not in moon
  OP_ONCE = 128,           // the gradient has no gradient: its backward records nothing
  OP_CONSTANT = 256,       // the result depends on no input's values: there is no gradient
  OP_KEPT_GRADS = 512,     // backward also takes gradients of the results in [brackets]
  OP_HOST_TABLES = 1024,   // tensors behind the first may be small tables on the host
} op_flag;

// Which element types the first tensor (or the result, where there is none) may have.
// Reals are float32 and float64.
typedef enum op_dtypes { OP_ANY_DTYPE, OP_FLOATS, OP_REALS, OP_NUMBERS, OP_INTEGERS } op_dtypes;

// What mixed precision does with the arguments (autograd/autocast.h).
typedef enum op_casts { OP_CASTS_ALIKE, OP_CASTS_LOW, OP_CASTS_FULL } op_casts;

typedef struct op_descriptor {
  const char *name;
  const char *schema;
  const char *saves;        // tensors and results that backward reads: "input@weight out", where
                            // a@b says that only the gradient of b reads a
  const char *doc;          // first sentence: what it does; then shapes, formula, source
  const char *example;      // Lua lines that a spec runs; "expression --> literal" is compared
  unsigned flags;
  op_dtypes dtypes;
  op_casts casts;
  const char *stays;        // names of tensors that mixed precision leaves alone
  moon_status (*forward)(op_call *call);
  moon_status (*backward)(op_backward_call *call);   // NULL: not differentiable
  intptr_t row;                                      // for generated families: the row number
  const struct op_signature *signature;              // the parsed schema; set by op_register
  const char *family;                                // its file in csrc/ops; set by the registry
} op_descriptor;

// -- the parsed schema
typedef struct op_param {
  char name[24];
  op_kind kind;
  bool optional;            // may be left out altogether
  bool alone;               // of Tensor|Tensor[]: one tensor is a list of one
  int fixed;                // of int[2], int[3], pads[2]: how many; 0 where any number will do
  unsigned saved_for;       // bit i: the gradient of parameter i reads this one
  bool has_default;
  op_value default_value;   // given when has_default
  char default_text[24];
  int choice_count;
  char choices[OP_MAX_CHOICES][16];
} op_param;

typedef struct op_signature {
  char inplace_name[32];    // "add_"
  int param_count, result_count, visible_results;
  bool returns_list;
  bool tensors_only;        // every parameter is a tensor that must be there
  int list_param;           // index of the Tensor[] parameter, -1 if none; the last of several,
                            // which only operators without a backward have
  op_param params[OP_MAX_PARAMS];
  char results[OP_MAX_RESULTS][24];
  unsigned result_saved_for[OP_MAX_RESULTS];
} op_signature;

// Whether the first tensor may be of this type, as op->dtypes says.
bool op_takes_dtype(const op_descriptor *op, moon_dtype dtype);

// Parses op->schema and op->saves into op->signature. Called once for each descriptor.
MOON_MUST_CHECK moon_status op_register(op_descriptor *op);

// -- calling from C
static inline op_value op_tensor(moon_tensor *t) {
  op_value v = { .given = t != 0, .tensor = t };
  return v;
}
static inline op_value op_tensors(moon_tensor **list, int count) {
  op_value v = { .given = true, .tensors = { list, count } };
  return v;
}
static inline op_value op_int(int64_t i) { op_value v = { .given = true, .integer = i }; return v; }
static inline op_value op_number(double d) {
  op_value v = { .given = true, .number = d };
  return v;
}
static inline op_value op_bool(bool b) { op_value v = { .given = true, .boolean = b }; return v; }
static inline op_value op_dtype(moon_dtype d) {
  op_value v = { .given = true, .dtype = d };
  return v;
}
op_value op_ints(int count, const int64_t *v);
static inline op_value op_none(void) { op_value v = { .given = false, .integer = 0 }; return v; }

// Applies `op`: checks devices, runs forward, records a tape node where a gradient is needed.
// results receives op->signature->result_count owned tensors (hidden ones too; NULL if not made).
MOON_MUST_CHECK moon_status op_apply(moon_engine *engine, op_descriptor *op, op_value *args,
                                     moon_tensor **results);
// The in-place form: writes into args[0]'s tensor, or each of its list. Nothing is returned.
MOON_MUST_CHECK moon_status op_apply_inplace(moon_engine *engine, op_descriptor *op,
                                             op_value *args);
// As op_apply for "-> Tensor[]": an owned array (alloc_delete) of owned tensors.
MOON_MUST_CHECK moon_status op_apply_list(moon_engine *engine, op_descriptor *op, op_value *args,
                                          moon_tensor ***list, int *count);

// One visible result: OP_RUN(engine, &op_mul, &product, op_tensor(a), op_tensor(b)).
// Arguments left out at the end take their defaults.
MOON_MUST_CHECK moon_status op_run(moon_engine *engine, op_descriptor *op, moon_tensor **result,
                                   int count, const op_value *args);
#define OP_RUN(engine, op, result, ...)                                        \
  op_run(engine, op, result, (int)(sizeof((op_value[]){ __VA_ARGS__ }) / sizeof(op_value)), \
         (op_value[]){ __VA_ARGS__ })

#endif
