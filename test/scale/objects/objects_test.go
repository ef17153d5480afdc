package objects

import (
	"crypto/tls"
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestAll(t *testing.T) {
	p := Plan{Seed: 1, Ingresses: 200, Certificates: 100}
	first, second := p.All(), p.All()
	secrets := 0
	for i, o := range first {
		a, errA := json.Marshal(o)
		b, errB := json.Marshal(second[i])
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Fatalf("another object: %s, before %s (%v, %v)", b, a, errA, errB)
		}
		if s, ok := o.(*corev1.Secret); ok {
			secrets++
			if _, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(first) != 700 || secrets != 100 {
		t.Errorf("%d objects, %d Secrets", len(first), secrets)
	}
	if string(Plan{Seed: 2}.Secret(0).Data["tls.key"]) == string(p.Secret(0).Data["tls.key"]) {
		t.Error("the seed has no effect")
	}
}
