("x" * 2e6) as $s | reduce range(1e6) as $i (0; $s | startswith($s), endswith($s) | 0)

null