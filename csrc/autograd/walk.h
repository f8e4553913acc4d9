// A walk over the tape: what backward and grad have in common.
//
// The nodes that the roots reach are gathered once and sorted so that later calls come last. Each
// is asked from the last on for the gradients of its inputs, and is complete when its turn comes,
// because all its consumers were called later. Nothing recurses. Gradients go to the leaves' .grad,
// or, where there are targets, to those and nowhere else; then only nodes that lead to a target
// run. What a node saved is freed as soon as it was used, unless it is to be retained. An open node
// (custom.h) gives the walk more nodes when its turn comes, later calls than all that are left.
#ifndef MOON_AUTOGRAD_WALK_H
#define MOON_AUTOGRAD_WALK_H

#include "autograd/node.h"

// A place on the tape: a leaf, or a node's result.
typedef struct walk_place {
  tape_record *leaf;
  tape_node *node;
  int result;
} walk_place;

typedef struct walk_root {
  walk_place place;              // retained by walk_go while it runs
  moon_tensor *seed;             // owned by the caller
} walk_root;

typedef struct walk_target {
  walk_place place;
  bool reached;
  moon_tensor *grad;             // owned by the caller; may stay NULL, then it is zero
} walk_target;

typedef struct walk_leaf {       // a leaf with hooks: its gradient is gathered until the end
  tape_record *leaf;
  moon_tensor *grad;
} walk_leaf;

typedef struct walk {
  moon_engine *engine;
  const char *name;              // of what the user called, for errors
  bool retain, create_graph;
  uint64_t since;                // nodes of earlier calls stay out of the walk
  walk_root *roots;
  int root_count;
  walk_target *targets;          // NULL: into the leaves' .grad; else each place once
  int target_count;
  bool all_reached;              // fail, before anything runs, where a target is not reached
  walk_target *missing;          // which one that was
  bool open;                     // the rest is the walk's own: it met a node that leads to more
  tape_node **nodes;             // those whose turn is still to come
  size_t count, capacity;
  walk_leaf *leaves;
  int leaf_count, leaf_capacity;
} walk;

walk_place walk_place_of(const moon_tensor *tensor);
static inline bool walk_same_place(walk_place a, walk_place b) {
  return a.leaf == b.leaf && a.node == b.node && a.result == b.result;
}

// Sorts the targets, as walk_go needs them; a place is found among them by walk_find.
void walk_sort_targets(walk *w);
walk_target *walk_find(walk *w, walk_place place);

// The whole walk. engine->grad_enabled is create_graph while it lasts.
MOON_MUST_CHECK moon_status walk_go(walk *w);

#endif
