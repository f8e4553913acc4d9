// The tape as a list, for pictures of it: from a tensor back to the leaves, nearest first.
//
// Breadth first over a Lua table that is list and queue in one, so that any depth is the same and
// the order is the graph's own. Nodes and leaves are known by their addresses, which live as long
// as the tensor on the stack.
#include "autograd/node.h"
#include "autograd/tape.h"
#include "lua/binding.h"

typedef struct listing {
  lua_State *L;
  int entries, places;         // stack: the list; address -> number in it
  int count, limit;
  bool cut;
} listing;

static void set_shape(lua_State *L, int entry, const char *key, int result, int ndim,
                      const int64_t *shape) {
  char text[TENSOR_SHAPE_TEXT];
  lua_getfield(L, entry, key);
  lua_pushstring(L, shape_text(ndim, shape, text));
  lua_rawseti(L, -2, result + 1);
  lua_pop(L, 1);
}

// Pushes the number of the entry of an address, making it where it is new; 0 beyond the limit.
static int entry_number(listing *list, const void *address, const tape_node *node,
                        moon_dtype dtype) {
  lua_State *L = list->L;
  lua_pushlightuserdata(L, (void *)address);
  lua_rawget(L, list->places);
  int number = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  if (number > 0) return number;
  if (list->count == list->limit) {
    list->cut = true;
    return 0;
  }
  number = ++list->count;
  lua_pushlightuserdata(L, (void *)address);
  lua_pushinteger(L, number);
  lua_rawset(L, list->places);
  lua_createtable(L, 0, 4);
  lua_newtable(L);
  lua_setfield(L, -2, "shapes");
  lua_pushlightuserdata(L, (void *)address);
  lua_setfield(L, -2, "address");
  if (node) {
    lua_pushstring(L, node_name(node));
    lua_setfield(L, -2, "name");
  }
  lua_pushstring(L, dtype_name(dtype));
  lua_setfield(L, -2, "dtype");
  lua_rawseti(L, list->entries, number);
  return number;
}

static int reach(listing *list, const tape_node *node, const tape_record *leaf, int result,
                 moon_dtype dtype, int ndim, const int64_t *shape) {
  lua_State *L = list->L;
  int number = entry_number(list, node ? (const void *)node : (const void *)leaf, node, dtype);
  if (number == 0) return 0;
  lua_rawgeti(L, list->entries, number);
  set_shape(L, lua_gettop(L), "shapes", result, ndim, shape);
  lua_pop(L, 1);
  return number;
}

// The entry's .from: numbers of what it was calculated from, 0 for those left out.
static void expand(listing *list, int number, const tape_node *node) {
  lua_State *L = list->L;
  lua_newtable(L);
  for (int i = 0, n = 0; i < node->input_count; i++) {
    const tape_edge *edge = &node->edges[i];
    const op_input *input = &node->inputs[i];
    if (!edge->node && !edge->leaf) continue;
    lua_pushinteger(L, reach(list, edge->node, edge->leaf, edge->result, input->dtype, input->ndim,
                             input->shape));
    lua_rawseti(L, -2, ++n);
  }
  lua_rawgeti(L, list->entries, number);
  lua_insert(L, -2);
  lua_setfield(L, -2, "from");
  lua_pop(L, 1);
}

// core.tape_list(x, limit) -> entries, whether it was cut. An entry: name (of the operator; none:
// a leaf), dtype, shapes by result, address, from.
static int tape_list(lua_State *L) {
  moon_tensor *x = tensor_check(L, 1, "graph", "loss");
  listing list = { .L = L, .limit = (int)luaL_checkinteger(L, 2) };
  if (!tape_requires_grad(x))
    binding_error(L, "graph: this tensor requires no gradient, so it is on no tape");
  luaL_checkstack(L, 12, "no room for a picture");
  lua_newtable(L);
  list.entries = lua_gettop(L);
  lua_newtable(L);
  list.places = list.entries + 1;
  const tape_record *record = record_of(x);
  reach(&list, record->node, record, record->node ? record->result : 0, x->dtype, x->ndim,
        x->shape);
  for (int i = 1; i <= list.count; i++) {
    lua_rawgeti(L, list.entries, i);
    lua_getfield(L, -1, "name");
    bool is_node = !lua_isnil(L, -1);
    lua_getfield(L, -2, "address");
    const void *address = lua_touserdata(L, -1);
    lua_pop(L, 3);
    if (is_node) expand(&list, i, address);
  }
  lua_settop(L, list.entries);
  lua_pushboolean(L, list.cut);
  return 2;
}

// core.tape_address(x) -> what tape_list calls x where it is a leaf; nil if it is none
static int tape_address(lua_State *L) {
  moon_tensor *x = tensor_check(L, 1, "graph", "a parameter");
  if (!x->meta || record_of(x)->node) return 0;
  lua_pushlightuserdata(L, record_of(x));
  return 1;
}

static const luaL_Reg functions[] = {
  { "tape_list", tape_list }, { "tape_address", tape_address }, { NULL, NULL },
};

void graph_open(lua_State *L, binding_state *state) { binding_functions(L, state, functions); }
