# bench.json to a Markdown table with the budgets beside.
def cell: if . == null then "" else tostring end;
def budget: if .budget == null then "" else "\(.budget)\(if .verdict == null then "" else ", \(.verdict)" end)" end;
["runc", "crun", "krun", "krunfw", "qemu"] as $peers
| "| what | unit | caisson | budget | runc | crun | libkrun | libkrun, its kernel | QEMU + virtiofsd |",
"|---|---|---|---|---|---|---|---|---|",
(.[] | . as $row | "| \(.name) | \(.unit) | \(if .caisson == null then "" else "**\(.caisson)**" end) | \(budget) | \($peers | map($row.peers[.] | cell) | join(" | ")) |")
