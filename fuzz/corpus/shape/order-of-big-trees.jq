[range(1e4)] as $a | ($a + [0]) as $b | reduce range(1e6) as $i (0; [$a, $b] | sort_by(.), group_by(.), unique, min_by(.), (.[0] == .[1]) | 0)

null