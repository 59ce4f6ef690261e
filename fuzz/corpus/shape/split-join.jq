reduce range(1e6) as $i (0; ("a,b" * 1e5) | split(",") | join(";") | . / "b" | 0)

null