([range(3000) | {key: ("x" * 1000 + tostring), value: 1}] | from_entries) as $o | reduce range(1e6) as $i (0; $o | keys | 0)

null