// Plain values on their way from one Lua state to another: nil, booleans, numbers, strings, tables
// of these, and tensors, which cross by reference and without their tape. What one state asked of a
// device before it sent a message comes before what the other asks after it received it, as it does
// on the CPU.
#ifndef MOON_LUA_MESSAGE_H
#define MOON_LUA_MESSAGE_H

#include "lua/binding.h"

typedef struct message message;

// Copies the value at `index`; never raises. A function, thread or foreign userdata is refused with
// a sentence that says where in the value it stands.
MOON_MUST_CHECK moon_status message_read(lua_State *L, int index, message **copied);
// Pushes it. May raise when Lua runs out of memory: call it protected.
void message_push(lua_State *L, binding_state *state, const message *m);
void message_delete(message *m);   // NULL is fine

// A queue between two threads.
typedef struct channel channel;
MOON_MUST_CHECK moon_status channel_new(channel **made);
void channel_delete(channel *c);                 // nobody may wait in it
void channel_forget(channel *c);                 // the same in the child of a fork; NULL is fine
void channel_send(channel *c, message *m);       // takes it over; dropped after channel_close
void channel_close(channel *c);                  // wakes all waiters; what was sent can be received
void channel_shut(channel *c);                   // the same, and drops what was not received
// Takes the first message; NULL when closed and empty, or after `seconds` (< 0: no limit).
message *channel_receive(channel *c, double seconds);
bool channel_is_closed(channel *c);

#endif
