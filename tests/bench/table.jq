# bench.json to a Markdown table with the budgets beside.
def cell: if . == null then "-" else tostring end;

"| what | unit | caisson | budget | runc | crun | QEMU + virtiofsd |",
"|---|---|---|---|---|---|---|",
(.[] | "| \(.name) | \(.unit) | \(.caisson | cell) | \(.budget | cell) | \(.peers.runc | cell) | \(.peers.crun | cell) | \(.peers.qemu | cell) |")
