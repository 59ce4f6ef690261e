("1" * 3e6 | tonumber) as $n | reduce range(1e6) as $i (0; [$n == $n, ($n | isnan), ($n | floor), $n + 1, -$n] | 0)

null