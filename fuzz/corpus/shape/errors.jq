[[.[] | try (if . then error(.) else error end) catch .], (.a? // "none"), (try error("\(..)") catch 1)] | length

[1,null,"x"]