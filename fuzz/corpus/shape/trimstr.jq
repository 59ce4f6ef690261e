("x" * 2e6) as $s | reduce range(1e6) as $i (0; $s | ltrimstr($s), rtrimstr($s) | 0)

null