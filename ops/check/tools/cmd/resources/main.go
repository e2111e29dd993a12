// Reads manifests as the operators do that they are for: into the Go types of KEDA and of the Prometheus operator, where a
// field that does not exist or is of another kind is an error, and by KEDA's own rules for its objects.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	stream "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// The groups of resources that are read here; all others are Kubernetes' own and have schemas.
var groups = []string{"keda.sh/", "monitoring.coreos.com/"}

func main() {
	if err := checkAll(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func checkAll(files []string) error {
	if len(files) == 0 {
		return errors.New("usage: resources FILE...")
	}
	var faults []error
	for _, name := range files {
		read, err := checkFile(name)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
		}
		fmt.Printf("%s: %d resources read by the types of their operators: %s\n", name, len(read), strings.Join(read, ", "))
	}
	return errors.Join(faults...)
}

func checkFile(name string) (read []string, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	documents := stream.NewYAMLReader(bufio.NewReader(file))
	var faults []error
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return read, errors.Join(faults...)
		}
		if err != nil {
			return read, err
		}
		what, err := checkDocument(document)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", what, err))
		} else if what != "" {
			read = append(read, what)
		}
	}
}

// checkDocument says what it has read, as "Kind name"; nothing if it is none of its groups.
func checkDocument(document []byte) (what string, err error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := yaml.Unmarshal(document, &head); err != nil {
		return "a document", err
	}
	known := false
	for _, group := range groups {
		known = known || strings.HasPrefix(head.APIVersion, group)
	}
	if !known {
		return "", nil
	}
	what = head.Kind + " " + head.Metadata.Name
	switch head.APIVersion + "/" + head.Kind {
	case "keda.sh/v1alpha1/ScaledObject":
		return what, scaledObject(document)
	case "keda.sh/v1alpha1/TriggerAuthentication":
		return what, yaml.UnmarshalStrict(document, new(keda.TriggerAuthentication))
	case "monitoring.coreos.com/v1/ServiceMonitor":
		return what, serviceMonitor(document)
	case "monitoring.coreos.com/v1/PrometheusRule":
		return what, yaml.UnmarshalStrict(document, new(monitoring.PrometheusRule))
	}
	return what, fmt.Errorf("%s is not read here; add its type to ops/check/tools/cmd/resources", head.APIVersion)
}

func scaledObject(document []byte) error {
	object := new(keda.ScaledObject)
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		return err
	}
	if object.Spec.ScaleTargetRef == nil || object.Spec.ScaleTargetRef.Name == "" {
		return errors.New("spec.scaleTargetRef names nothing")
	}
	return errors.Join(
		keda.CheckReplicaCountBoundsAreValid(object),
		keda.CheckFallbackValid(object),
		keda.ValidateTriggers(object.Spec.Triggers),
	)
}

func serviceMonitor(document []byte) error {
	monitor := new(monitoring.ServiceMonitor)
	if err := yaml.UnmarshalStrict(document, monitor); err != nil {
		return err
	}
	if len(monitor.Spec.Endpoints) == 0 {
		return errors.New("spec.endpoints is empty")
	}
	for _, endpoint := range monitor.Spec.Endpoints {
		if endpoint.Port == "" && endpoint.TargetPort == nil {
			return errors.New("an endpoint has no port")
		}
	}
	return nil
}
