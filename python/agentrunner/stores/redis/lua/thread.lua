--@ journals threads guard
-- Arguments: thread, scopes, incarnation?.
if not is_meant(ARGV[1], ARGV[2], ARGV[3]) then return false end
return read_summary(ARGV[1])
