-- Runs before the specs of a process: the library's numbers are the same in every run.
require("moonlet").manual_seed(20151210)
