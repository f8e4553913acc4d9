-- What the tape calls in Lua: the backward of functions and checkpoints, and hooks on gradients.
-- Set once; csrc/lua/function.c calls them in the middle of a walk.

return function(core)
  -- payload: what core.function_record was given; it brings its own `run`.
  local function run_function(payload, saved, grads)
    return payload.run(payload, saved, grads)
  end

  core.set_runners(run_function, print)
end
