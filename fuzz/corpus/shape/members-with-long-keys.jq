("x" * 1e6) as $s | reduce range(1e6) as $i (0; {($s): 1, ($s + "y"): 2} | 0)

null