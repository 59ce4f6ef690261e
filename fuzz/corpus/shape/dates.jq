[.[] | todate | ., fromdate]

[0,1700000000,-1]