package judge

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// order is what the child process is to do. It comes in the environment, as
// JSON: the suite's packages take the command line for themselves.
type order struct {
	Class    string        // GatewayClass
	Expected []Expectation // which tests, and how long to wait
	Debug    bool          // every request in the output
	Keep     bool          // the base manifests' objects
	Report   string        // file to write a report into
}

// report is what the child process says.
type report struct {
	Setup Outcome            // why no test was begun, or Passed
	Tests map[string]Outcome // of those that were begun
}

const orderEnv = "GATEHOUSE_TEST_SUITE"

// vainTimeout is how long the suite waits for what is not expected to happen. A
// controller that serves a class needs far less.
const vainTimeout = 3 * time.Second

// Suite runs the official suite and ends the process, if this is the child
// process in which to do so; otherwise it returns at once. main calls it first.
func Suite() {
	text, child := os.LookupEnv(orderEnv)
	if !child {
		return
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, "suite: cannot read the order:", err)
		os.Exit(2)
	}
	// Verbose, so that a red run explains itself; the parent decides who sees it.
	os.Args = []string{os.Args[0], "-test.v"}
	testing.Main(regexp.MatchString, []testing.InternalTest{{Name: "GatewayAPI", F: o.run}}, nil, nil)
}

func (o order) run(t *testing.T) {
	r := report{Setup: NotStarted, Tests: map[string]Outcome{}}
	defer func() { // also after t.FailNow
		if err := r.write(o.Report); err != nil {
			t.Error(err)
		}
	}()
	options := conformance.DefaultOptions(t)
	options.ConfigurableOptions = o.options()
	options.Hook = func(t *testing.T, test suite.ConformanceTest, _ *suite.ConformanceTestSuite) {
		switch {
		case t.Failed():
			r.Tests[test.ShortName] = Failed
		case t.Skipped():
			r.Tests[test.ShortName] = Skipped
		default:
			r.Tests[test.ShortName] = Passed
		}
	}
	tests, err := selected(o.Expected)
	if err != nil {
		t.Fatal(err)
	}
	s, err := suite.NewConformanceTestSuite(options)
	if err != nil {
		t.Fatalf("cannot make the suite: %v", err)
	}
	func() {
		defer func() { // Setup ends the goroutine when it fails
			r.Setup = Passed
			if t.Failed() {
				r.Setup = o.stoppedAt(t, s)
			}
		}()
		s.Setup(t, tests)
	}()
	if err := s.Run(t, tests); err != nil {
		t.Error(err)
	}
}

// options are the suite's own, with the core features of Profiles.
func (o order) options() suite.ConfigurableOptions {
	opts := suite.ConfigurableOptions{
		GatewayClassName:     o.Class,
		Debug:                o.Debug,
		CleanupBaseResources: !o.Keep,
		CleanupTestResources: true,
		SupportedFeatures:    supported(),
		TimeoutConfig:        config.DefaultTimeoutConfig(),
		Mode:                 "default",
		// Hook is not called concurrently then, and output stays in order.
		DisableParallelTests: true,
		Implementation: confv1.Implementation{
			Organization: "gatehouse", Project: "gatehouse", URL: "https://gatehouse.dev", Version: "devel", Contact: []string{"https://gatehouse.dev"},
		},
	}
	for _, p := range Profiles {
		opts.ConformanceProfiles = append(opts.ConformanceProfiles, p.Name)
	}
	for _, e := range o.Expected {
		if e.Ends == NotAccepted {
			opts.TimeoutConfig.GWCMustBeAccepted = vainTimeout
			opts.TimeoutConfig.NamespacesMustBeReady = vainTimeout
		}
	}
	return opts
}

// stoppedAt says what Setup failed at, by what it left: it waits for the
// GatewayClass, and applies the base manifests then.
func (o order) stoppedAt(t *testing.T, s *suite.ConformanceTestSuite) Outcome {
	var class gatewayv1.GatewayClass
	err := s.Client.Get(t.Context(), types.NamespacedName{Name: o.Class}, &class)
	if apierrors.IsNotFound(err) {
		return NoClass
	}
	if err != nil {
		t.Logf("cannot get the GatewayClass: %v", err)
		return NotStarted
	}
	var namespace corev1.Namespace
	err = s.Client.Get(t.Context(), types.NamespacedName{Name: suite.InfrastructureNamespace}, &namespace)
	accepted := meta.IsStatusConditionTrue(class.Status.Conditions, string(gatewayv1.GatewayClassConditionStatusAccepted))
	if apierrors.IsNotFound(err) && !accepted {
		return NotAccepted
	}
	return NotSetUp
}

func (r report) write(path string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}
