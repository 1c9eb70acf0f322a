--@ journals threads
-- Arguments: thread.
return read_summary(ARGV[1])
