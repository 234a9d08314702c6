# Samples (name, unit, peer, value; tab-separated lines) of network.sh to a Markdown
# table: medians, and for costs the ratio to runc, whose wire is a veth alone.
def median: sort | if length % 2 == 1 then .[length / 2 | floor]
	else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def shown: if . >= 100 then round else (. * 100 | round) / 100 end | tostring;
def cell(control): if . == null then "" elif control == null or control == 0 then shown
	else "\(shown) (\(. / control | shown))" end;

[split("\n")[] | select(. != "") | split("\t") | {name: .[0], unit: .[1], peer: .[2], value: (.[3] | tonumber)}] as $samples
| (reduce $samples[].peer as $peer ([]; if index([$peer]) then . else . + [$peer] end)) as $peers
| (reduce $samples[] as $one ([]; ($one | {name, unit}) as $row | if index([$row]) then . else . + [$row] end)
	| sort_by(.name | split(", ")[0])) as $rows
| "| what | unit | \($peers | join(" | ")) |", "|---|---|\($peers | map("---|") | join(""))",
($rows[] | . as $row
	| ([$samples[] | select(.name == $row.name and .unit == $row.unit)] | group_by(.peer)
		| map({key: .[0].peer, value: (map(.value) | median)}) | from_entries) as $values
	| "| \($row.name) | \($row.unit) | \($peers | map(. as $peer | $values[$peer] | cell(if $peer == "runc" then null else $values.runc end)) | join(" | ")) |")
