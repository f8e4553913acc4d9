-- unpack under the one name that every Lua knows: a global in 5.1 and LuaJIT, in `table` since 5.2.

return rawget(table, "unpack") or rawget(_G, "unpack")
