// Profiles: what ran, inside of what, for how long, over how many bytes and by which algorithm.
//
// While OBSERVE_TIME is on, everything of interest appends an event to engine->profile when it
// begins and completes it when it ends: calls of operators, backwards of nodes, walks, collections,
// and calls of modules, which the layer above tells of by number. Events that are not over yet form
// a stack, so that each knows which one it ran in. A coroutine may be suspended inside of a
// module's call: such an event stays in the stack, but nothing that runs meanwhile is inside of it.
// A node remembers its call's module, which the backward is then charged to.
//
// Profiles may be taken one inside the other: they share the list, and each has the events from its
// beginning on. No failure to record fails what is recorded; events that found no room are counted.
#ifndef MOON_AUTOGRAD_PROFILE_H
#define MOON_AUTOGRAD_PROFILE_H

#include "autograd/node.h"

enum { PROFILE_NAME = 48, PROFILE_MOST = 1 << 22 };   // bytes of a name; events

typedef enum profile_kind {
  PROFILE_CALL, PROFILE_BACKWARD, PROFILE_WALK, PROFILE_COLLECTION, PROFILE_MODULE,
} profile_kind;

typedef struct profile_event {
  profile_kind kind;
  char name[PROFILE_NAME];       // of the operator or function; "" for a module
  uint64_t module;               // MODULE: its number; BACKWARD: whose forward it was; else whose
                                 // call it ran in; 0: nobody's
  int64_t outer, below;          // the event it ran in; the one under it in the stack; -1: none
  double start, stop;            // os_clock; stop is 0 until it is over
  int64_t moved;                 // bytes of inputs and results, by their shapes; 0 for views
  int64_t memory;                // bytes held at most beyond those at its start; MODULE: at its end
  int64_t peak;                  // until it is over: the engine's highest figure before
  const char *algorithms[2];     // what kernels chose, the last first; NULL: nothing told
  const void *thread;            // MODULE: the coroutine of the call
} profile_event;

typedef struct moon_profile {
  profile_event *events;
  int64_t count, capacity, dropped;
  int64_t top;                   // of the stack; -1: empty
  int depth;                     // profiles that are being taken
  bool (*is_suspended)(const void *thread);
} moon_profile;

// Begins one; gives the number of its first event. A failure leaves everything as it was.
MOON_MUST_CHECK moon_status profile_begin(moon_engine *engine,
                                          bool (*is_suspended)(const void *thread),
                                          int64_t *first);
void profile_end(moon_engine *engine);     // the last one frees the list
void profile_drop(moon_engine *engine);    // ends them all

// Each of these does nothing while no profile is taken, nor for the event -1.
int64_t profile_open(moon_engine *engine, profile_kind kind, const char *name);
int64_t profile_open_backward(moon_engine *engine, const tape_node *node);
int64_t profile_open_module(moon_engine *engine, uint64_t module, const void *thread);
void profile_close(moon_engine *engine, int64_t event);
void profile_close_call(int64_t event, const op_call *call);
void profile_close_backward(moon_engine *engine, int64_t event, const tape_node *node,
                            moon_tensor **out);

uint64_t profile_module(const moon_engine *engine);   // whose call is running; 0: nobody's

#endif
