--@ journals threads
-- thread
return summary(ARGV[1])
