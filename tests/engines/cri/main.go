// Makes one call of the Container Runtime Interface, as a kubelet does.
//
// usage: cri SOCKET METHOD [REQUEST]
//
// METHOD is one of RuntimeService, such as RunPodSandbox; REQUEST is its message as
// JSON. Prints the answer as JSON, fields with their default values included. An error
// is one line, and exit status 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const limit = 10 * time.Minute

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: cri SOCKET METHOD [REQUEST]")
		os.Exit(2)
	}
	request := "{}"
	if len(os.Args) > 3 {
		request = os.Args[3]
	}
	answer, err := call(os.Args[1], os.Args[2], request)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
	fmt.Println(answer)
}

func call(socket, method, text string) (string, error) {
	service := cri.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto.Services().ByName("RuntimeService")
	found := service.Methods().ByName(protoreflect.Name(method))
	if found == nil {
		return "", errors.New("RuntimeService has no method " + method)
	}
	request, answer := dynamicpb.NewMessage(found.Input()), dynamicpb.NewMessage(found.Output())
	if err := protojson.Unmarshal([]byte(text), request); err != nil {
		return "", fmt.Errorf("the request: %w", err)
	}
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	path := fmt.Sprintf("/%s/%s", service.FullName(), method)
	if err := connection.Invoke(ctx, path, request, answer); err != nil {
		return "", err
	}
	said, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(answer)
	return string(said), err
}
