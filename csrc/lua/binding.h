// Inside of the Lua binding: the state behind a lua_State, tensor handles, and the one way errors
// are raised.
//
// Every C function of the module has the binding_state as its first upvalue. A tensor in Lua is a
// userdata (a handle) that holds one reference; handles made inside a moon.scope are linked in the
// scope's list, so that leaving it can release them.
// Rule for errors: a function first reads its arguments (luaL_error is fine), then calls the core,
// then cleans up, then raises. Nothing of the core is on the C stack when Lua jumps.
#ifndef MOON_LUA_BINDING_H
#define MOON_LUA_BINDING_H

#include <lauxlib.h>
#include <lua.h>

#include "autograd/op.h"

#if LUA_VERSION_NUM < 502
#define lua_rawlen(L, index) lua_objlen(L, index)
#endif

// Small, because Lua's collector paces itself by the size of what it sees.
typedef struct tensor_handle {
  const void *magic;                       // &binding_magic: tells our userdata from others
  moon_tensor *tensor;                     // NULL: released by a scope, or not filled yet
  struct tensor_handle *next;              // in the scope's list; NULL outside of scopes
  union {
    struct tensor_handle *previous;        // in the scope's list
    const char *released_at;               // outside: where the scope stands that released it
  };
  unsigned mark;                           // serial of the scope that found it among its results
  bool keep;                               // scopes pass it on
  bool lazy;                               // its shape is decided by the first use
  bool carries;                            // has a carrier: carry.c
} tensor_handle;

typedef struct binding_scope {
  tensor_handle list;                      // head of a ring
  struct binding_scope *outer;
  unsigned serial;
  const char *where;                       // source position, for the error text
} binding_scope;

typedef struct binding_state {
  moon_engine *engine;                     // NULL once the lua_State is closing
  lua_State *running;                      // whose stack a collection may use
  binding_scope *scope;                    // innermost, NULL outside
  double collect_ended, collect_took;      // of the thread's clock, for the collection rule
  int collecting;                          // collections of ours that run, one inside the other
  bool close_due;                          // its finaliser ran in one of them
  unsigned scopes;                         // opened so far
  int tensor_metatable;                    // reference in the registry
  int payloads;                            // reference: id -> payload, weak (carry.c)
  uint64_t payload_ids;                    // given so far
  uint64_t payload_ids_collected;          // when they last were a reason to collect
  int walk_carrier;                        // reference: what the running walk carries, or false
  int run_function, run_hooks;             // references: Lua functions, of lua/moonlet
  int thrown;                              // stack index of an error that is no text; 0: none
  int scope_positions;                     // reference: a set of strings, "file:line" of scopes
  char library[256];                       // how sources of the library begin; "" = unknown
} binding_state;

extern const char binding_magic;

// -- module.c, state.c
binding_state *binding_here(lua_State *L);             // from the running function's first upvalue
binding_state *binding_of(lua_State *L);               // from the registry
// Adds functions to the table on top, each with the state as upvalue.
void binding_functions(lua_State *L, binding_state *state, const luaL_Reg *functions);
// Set a field of the table on top.
void binding_set_number(lua_State *L, const char *key, double value);
void binding_set_int64(lua_State *L, const char *key, int64_t value);   // raises as push_int64
void binding_set_boolean(lua_State *L, const char *key, bool value);
void binding_set_text(lua_State *L, const char *key, const char *text);
// Raises a sentence with the position of the innermost Lua code outside the library. Formats as
// lua_pushfstring. Does not return.
int binding_error(lua_State *L, const char *format, ...);
// Raises the core's last error so.
int binding_raise(lua_State *L);
// Raises if status is not OK.
void binding_check(lua_State *L, moon_status status);
// The state that an engine belongs to.
binding_state *binding_of_engine(const moon_engine *engine);
// Calls call(argument as light userdata) protected; nothing outside the protection asks for memory.
// Not 0 on an error, whose text is then on the stack, unless not even that had room.
int binding_protect(lua_State *L, lua_CFunction call, void *argument);
// Collects Lua garbage now; a finaliser's error is swallowed.
void binding_collect(lua_State *L, binding_state *state);
// Whether so many times the last collection's time have not passed since.
bool binding_collected_lately(const binding_state *state, double times);
// Collects when the rule of docs/decisions.md says so. Call after making tensors.
void binding_collect_if_due(lua_State *L, binding_state *state);

// -- handle.c
tensor_handle *handle_push(lua_State *L, binding_state *state);             // empty
void handle_fill(tensor_handle *handle, moon_tensor *tensor);               // takes it over
void tensor_push(lua_State *L, binding_state *state, moon_tensor *tensor);  // takes it over
tensor_handle *handle_at(lua_State *L, int index);     // NULL if it is no tensor
moon_tensor *tensor_at(lua_State *L, int index);       // NULL if it is none; raises if released
// Raises "name: argument must be a tensor, got ..." if it is none.
moon_tensor *tensor_check(lua_State *L, int index, const char *name, const char *argument);
// Raises for a tensor whose elements lie where the host cannot read them.
void binding_need_host(lua_State *L, const char *name, const moon_tensor *tensor);
// The tensor, or a copy in the host's memory that a handle on top of the stack holds; raises for
// one that has a shape alone.
moon_tensor *binding_on_host(lua_State *L, const char *name, moon_tensor *tensor);
// Pushes one element as a number or boolean, from whatever device; raises as above.
void binding_push_element(lua_State *L, const char *name, const moon_tensor *tensor,
                          int64_t offset);
// The same from the host's memory.
void binding_push_value(lua_State *L, moon_dtype dtype, const void *element);
int scope_run(lua_State *L);                            // moon.scope(fn, ...)
void handle_open(lua_State *L, binding_state *state);  // makes the metatable

// -- carry.c: Lua values that a tape needs, held by the tensors a backward can start from
void carry_open(lua_State *L, binding_state *state);
// Gives the value on top of the stack an id of its own; it lives as long as others hold it.
uint64_t payload_register(lua_State *L, binding_state *state);
// Collects when payloads or bytes say so. Call after making a payload and the tensors around it.
void payload_collect_if_due(lua_State *L, binding_state *state);
bool payload_push(lua_State *L, const binding_state *state, uint64_t id);   // nil, false: gone
// Pushes what the tensors among stack values first..last carry (lists and options are looked
// into): their one carrier, a new table of several, or nil.
void carry_join(lua_State *L, int first, int last);
// Makes the value on top of the stack (popped; nil: nothing) what the tensor at `index` carries,
// in place of what it did.
void carry_set(lua_State *L, int index);
void carry_push(lua_State *L, int index);   // what the tensor there carries, or nil
// A walk, during which the tape may call Lua: what its arguments (stack values first..last) carry,
// and what comes to it on the way, stays alive until its end; with a graph, for ever in the
// results. Leaves one value on the stack, whose index carry_walk_close takes.
int carry_walk_open(lua_State *L, binding_state *state, int first, int last, bool graph);
void carry_walk_close(lua_State *L, binding_state *state, int before);   // never raises
void carry_walk_push(lua_State *L, const binding_state *state);   // its carrier, or nil
void carry_walk_add(lua_State *L, const binding_state *state, int index);   // what a tensor carries
// After a call whose arguments stand at first..last: tensors of its results (stack values from
// `result` on, lists too) that are on the tape carry what the arguments do.
void carry_over(lua_State *L, int first, int last, int result);

// -- arguments.c
// A Lua number: as a double, and exactly where it is a whole number in int64's range.
typedef struct binding_number {
  double value;
  int64_t whole;
  bool is_whole;
} binding_number;
binding_number binding_to_number(lua_State *L, int index);
// Whether a whole number fits an integer type or bool.
bool binding_holds(moon_dtype dtype, int64_t whole);
// A 0-d tensor of it. The sentence of a failure begins with "is ...": put before it what was given.
// Brings a number's tensor (owned, replaced) to the device of the tensor beside it.
MOON_MUST_CHECK moon_status binding_beside(binding_state *state, const moon_tensor *beside,
                                           moon_tensor **scalar);
MOON_MUST_CHECK moon_status binding_scalar(binding_state *state, binding_number number,
                                           moon_dtype dtype, moon_tensor **scalar);
typedef struct binding_call {
  int count;                               // parameters of the operator
  bool carries;                            // one of the tensors has a carrier
  bool numbered;                           // one of `is_number` is true
  op_value values[OP_MAX_PARAMS];
  bool is_number[OP_MAX_PARAMS];           // a number where a tensor may stand
  binding_number numbers[OP_MAX_PARAMS];
  moon_tensor *made[OP_MAX_PARAMS];        // scalars made from them
} binding_call;
// Reads a call of nothing but tensors, all there and by position, such as a sum's operands; false,
// with nothing read, for any other call, good or bad.
bool arguments_read_tensors(lua_State *L, const op_descriptor *op, int first, binding_call *call);
// Reads the arguments from stack index `first` on; raises on a bad one.
void arguments_read(lua_State *L, const op_descriptor *op, const char *name, int first,
                    binding_call *call);
// Makes tensors of numbers that stand beside tensors; may fail, then arguments_close is still due.
MOON_MUST_CHECK moon_status arguments_make_scalars(binding_state *state, const op_descriptor *op,
                                                   const char *name, binding_call *call);
void arguments_close(binding_call *call);

// -- numbers: an int64 that this Lua cannot hold exactly raises
void binding_push_int64(lua_State *L, int64_t value);
// False if the value at `index` is no whole number in int64's range.
bool binding_to_int64(lua_State *L, int index, int64_t *value);
// Reads a shape: a table of sizes at `index`, or sizes from `index` up to `last`. Raises.
int binding_read_shape(lua_State *L, int index, int last, const char *name,
                       int64_t shape[MOON_MAX_DIMS]);
moon_dtype binding_read_dtype(lua_State *L, int index, const char *name);   // raises

// -- each file's functions, added to the module table on top of the stack
void operators_open(lua_State *L, binding_state *state);    // and the tensors' methods
void convert_open(lua_State *L, binding_state *state);
void autograd_open(lua_State *L, binding_state *state);
void function_open(lua_State *L, binding_state *state);     // what the tape calls in Lua
void graph_open(lua_State *L, binding_state *state);
void memory_open(lua_State *L, binding_state *state);
void profiles_open(lua_State *L, binding_state *state);
void conv_engines_open(lua_State *L, binding_state *state);
void settings_open(lua_State *L, binding_state *state);
void cuda_functions_open(lua_State *L, binding_state *state);
void files_open(lua_State *L, binding_state *state);        // safetensors, gzip
void image_open(lua_State *L, binding_state *state);
void worker_open(lua_State *L, binding_state *state);

// -- index.c: metamethods
int tensor_index(lua_State *L);       // upvalues: state, methods, fields
int tensor_newindex(lua_State *L);

// Calls an operator from C with tensors on the Lua stack: pushes its visible results.
int operator_call(lua_State *L, binding_state *state, op_descriptor *op, bool inplace, int first);

#endif
