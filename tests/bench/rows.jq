# Samples (name, unit, peer, value; tab-separated lines) to the rows of
# bench.json: medians, one row per name, in the order of $subjects; samples of the peer "nothing" are taken
# off. The control is the best peer of the kind that the budget is about: a
# machine for what a machine costs, else runc.
def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor]
	else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def control_of(name; values):
	(if name | test("^(exec true|read|untar of)") then ["runc", "crun"] else ["krun", "qemu", "runc", "crun"] end)
	| map(select(values[.] != null)) | first;
def verdict(budget; values):
	if budget == null or values.caisson == null then null
	else (if budget.at_most then budget.at_most else values[budget.of] as $other | if $other == null then null else budget.times * $other end end)
	| if . == null then null elif values.caisson <= . then "within" else "over" end end;

["run true", "exec true", "split", "kvm exits", "guests", "idle", "host PSS", "guest RAM", "memory", "read", "untar", "docker run", "ctr run", "ctr: ", "size"] as $subjects
| [split("\n")[] | select(. != "") | split("\t") | {name: .[0], unit: .[1], peer: .[2], value: (.[3] | tonumber)}] as $samples
| (if $only == "" then ["run true vms", "exec true vms"] | map({name: ., unit: "vms"}) else [] end) + ($samples | map({name, unit}))
| reduce .[] as $row ([]; if any(.[]; .name == $row.name) then . else . + [$row] end)
| sort_by(.name as $name | [$subjects[] as $subject | $name | startswith($subject)] | index(true))
| map(
	. as $row
	| ([$samples[] | select(.name == $row.name)] | group_by(.peer)
		| map({key: .[0].peer, value: (map(.value) | median)}) | from_entries) as $medians
	| ($medians | .nothing as $nothing | del(.nothing) | map_values(. - ($nothing // 0))) as $values
	| control_of($row.name; $values) as $control
	| $budgets[0][$row.name] as $budget
	| $row + {
		caisson: $values.caisson,
		control: (if $control == null then null else $values[$control] end),
		control_name: $control,
		machine: "kvm",
		peers: ($values | del(.caisson)),
		budget: $budget.text,
		verdict: verdict($budget; $values)
	}
	| if .caisson == null then .reason = "no run finished" else . end)
