--@ guard known_ids
-- Arguments: thread, scopes, incarnation?, ids...
if not is_meant(ARGV[1], ARGV[2], ARGV[3]) then return {} end
return read_known_ids(ARGV[1], 4)
