# Samples (name, unit, peer, value; tab-separated lines) to the rows of
# bench.json: medians, one row per name. The control is the peer that the budget
# is about where it took part: a machine for what a machine costs, else runc.
def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor]
	else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def control_of(name; values):
	(if name | test("^(exec|read|untar of)") then ["runc", "crun"] else ["qemu", "runc", "crun"] end)
	| map(select(values[.] != null)) | first;

[split("\n")[] | select(. != "") | split("\t") | {name: .[0], unit: .[1], peer: .[2], value: (.[3] | tonumber)}] as $samples
| (["run true vms", "exec true vms"] | map({name: ., unit: "vms"})) + ($samples | map({name, unit}))
| reduce .[] as $row ([]; if any(.[]; .name == $row.name) then . else . + [$row] end)
| map(
	. as $row
	| ([$samples[] | select(.name == $row.name)] | group_by(.peer)
		| map({key: .[0].peer, value: (map(.value) | median)}) | from_entries) as $values
	| control_of($row.name; $values) as $control
	| $row + {
		caisson: $values.caisson,
		control: (if $control == null then null else $values[$control] end),
		control_name: $control,
		machine: "kvm",
		peers: ($values | del(.caisson)),
		budget: $budgets[0][$row.name]
	}
	| if .caisson == null then .reason = "no run finished" else . end)
