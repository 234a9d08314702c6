# A root file system for engines, made of busybox alone: no registry is needed.
# Sourced by the engines' scripts.

# busybox_tree FOLDER: its root file system.
busybox_tree() {
	local tree=$1
	mkdir -p "$tree"/{bin,etc,proc,sys,dev,root,srv}
	mkdir -p -m 1777 "$tree/tmp"
	cp "$(command -v busybox)" "$tree/bin/busybox"
	busybox --list | grep -vx busybox | while read -r applet; do
		ln -sf busybox "$tree/bin/$applet"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$tree/etc/passwd"
	printf 'root:x:0:\nnobody:x:65534:\n' >"$tree/etc/group"
}

blob() { # blob FILE LAYOUT: moves the file in by its digest, which it prints
	local digest
	digest=$(sha256sum "$1" | cut -d' ' -f1)
	mv "$1" "$2/blobs/sha256/$digest"
	echo "$digest"
}

# oci_archive TREE NAME [WORDS...]: an OCI image archive of one layer, on standard
# output (image-spec, image-layout.md), that `ctr image import` names NAME; the words
# are what it runs.
oci_archive() {
	local layout layer config manifest size path='PATH=/usr/local/bin:/usr/bin:/bin'
	layout=$(mktemp -d)
	mkdir -p "$layout/blobs/sha256"
	tar -C "$1" --sort=name -cf "$layout/layer" .
	layer=$(blob "$layout/layer" "$layout")
	jq -cn --arg layer "sha256:$layer" --arg path "$path" --args '{architecture: "amd64", os: "linux",
		config: {Env: [$path], Cmd: $ARGS.positional}, rootfs: {type: "layers", diff_ids: [$layer]}}' -- "${@:3}" >"$layout/config"
	size=$(stat -c %s "$layout/config")
	config=$(blob "$layout/config" "$layout")
	jq -cn --arg layer "sha256:$layer" --arg config "sha256:$config" --argjson size "$size" \
		--argjson length "$(stat -c %s "$layout/blobs/sha256/$layer")" '{schemaVersion: 2,
		mediaType: "application/vnd.oci.image.manifest.v1+json",
		config: {mediaType: "application/vnd.oci.image.config.v1+json", digest: $config, size: $size},
		layers: [{mediaType: "application/vnd.oci.image.layer.v1.tar", digest: $layer, size: $length}]}' >"$layout/manifest"
	size=$(stat -c %s "$layout/manifest")
	manifest=$(blob "$layout/manifest" "$layout")
	jq -cn --arg digest "sha256:$manifest" --arg name "$2" --argjson size "$size" '{schemaVersion: 2,
		manifests: [{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $digest, size: $size,
		platform: {architecture: "amd64", os: "linux"},
		annotations: {"io.containerd.image.name": $name, "org.opencontainers.image.ref.name": $name}}]}' >"$layout/index.json"
	echo '{"imageLayoutVersion": "1.0.0"}' >"$layout/oci-layout"
	tar -C "$layout" -c .
	rm -r "$layout"
}
