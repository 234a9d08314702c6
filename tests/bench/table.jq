# bench.json to a Markdown table with the budgets beside.
def cell: if . == null then "-" else tostring end;
def plain: gsub(" (vms|MiB|cpu)(?=$|,)"; "");

"| what | unit | caisson | budget | runc | crun | QEMU + virtiofsd |",
"|---|---|---|---|---|---|---|",
(.[] | "| \(.name | plain) | \(.unit) | \(.caisson | cell) | \(.budget | cell) | \(.peers.runc | cell) | \(.peers.crun | cell) | \(.peers.qemu | cell) |")
