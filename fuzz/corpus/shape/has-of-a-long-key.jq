("x" * 2e6) as $s | {($s): 1} as $o | reduce range(1e6) as $i (0; $o | has($s) | 0)

null