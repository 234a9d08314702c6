//! Configurations of sandboxes, from requests as containerd sends them.

use super::*;
use messages::pod::{LinuxSandboxSecurityContext, NamespaceOption};

fn request() -> CreateSandboxRequest {
    CreateSandboxRequest {
        sandbox_id: "p1".to_owned(),
        netns_path: "/run/netns/p1".to_owned(),
        annotations: HashMap::from([("dev.caisson.x".to_owned(), "y".to_owned())]),
        ..Default::default()
    }
}

fn made(request: &CreateSandboxRequest, pod: &PodSandboxConfig) -> Result<Value, Error> {
    configuration(request, pod, "k8s.io", Path::new("/usr/pause"))
}

#[test]
fn a_pod_gives_its_name_network_cgroup_and_size() {
    let resources = LinuxContainerResources {
        memory_limit_in_bytes: 1 << 30,
        ..Default::default()
    };
    let linux = LinuxPodSandboxConfig {
        cgroup_parent: "/kubepods.slice/kubepods-pod1.slice".to_owned(),
        resources: Some(resources).into(),
        ..Default::default()
    };
    let pod = PodSandboxConfig {
        hostname: "web".to_owned(),
        linux: Some(linux).into(),
        ..Default::default()
    };
    let config = made(&request(), &pod).unwrap();
    assert_eq!(config["hostname"], "web");
    let network = json!({"type": "network", "path": "/run/netns/p1"});
    assert_eq!(config["linux"]["namespaces"][4], network);
    let path = "kubepods-pod1.slice:cri-containerd:p1";
    assert_eq!(config["linux"]["cgroupsPath"], path);
    let annotations = &config["annotations"];
    assert_eq!(
        annotations["io.kubernetes.cri.sandbox-memory"],
        "1073741824"
    );
    assert_eq!(annotations["io.kubernetes.cri.container-type"], "sandbox");
    assert_eq!(annotations["dev.caisson.x"], "y");
}

#[test]
fn without_a_pod_the_sandbox_is_alone() {
    let lonely = CreateSandboxRequest {
        sandbox_id: "s1".to_owned(),
        ..Default::default()
    };
    let config = made(&lonely, &pod_of(None).unwrap()).unwrap();
    assert_eq!(config["hostname"], "s1");
    assert_eq!(config["linux"]["cgroupsPath"], "/k8s.io/s1");
    assert_eq!(config["linux"]["namespaces"][4], json!({"type": "network"}));
}

#[test]
fn the_hosts_network_and_strange_options_are_refused() {
    let option = NamespaceOption {
        network: NamespaceMode::NODE.into(),
        ..Default::default()
    };
    let context = LinuxSandboxSecurityContext {
        namespace_options: Some(option).into(),
        ..Default::default()
    };
    let linux = LinuxPodSandboxConfig {
        security_context: Some(context).into(),
        ..Default::default()
    };
    let pod = PodSandboxConfig {
        linux: Some(linux).into(),
        ..Default::default()
    };
    let refused = made(&request(), &pod).unwrap_err();
    assert!(refused.to_string().contains("hostNetwork"), "{refused}");
    let strange = Any {
        type_url: "example.Other".to_owned(),
        ..Default::default()
    };
    pod_of(Some(&strange)).unwrap_err();
}
