.orders | group_by(.state) | map({state: .[0].state, n: length, sum: (map(.total) | add)})

{"orders":[{"state":"open","total":1},{"state":"done","total":2},{"state":"open","total":3}]}