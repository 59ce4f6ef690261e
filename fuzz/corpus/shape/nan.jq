[[range(30) | nan] | sort, group_by(.), unique, min, (map(isnan) | all) | length] | length

null