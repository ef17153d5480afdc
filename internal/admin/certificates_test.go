package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// certified is a configuration with a Secret's certificate and the self-made one.
func certified() *ir.Config {
	until := func(s int64) ir.CertificateTerm {
		return ir.CertificateTerm{NotBefore: time.Unix(1_600_000_000, 0).UTC(), NotAfter: time.Unix(s, 0).UTC()}
	}
	names := sorted.NewEditor(sorted.List[*ir.ServerName]{}, ir.CompareServerNames)
	names.Set(&ir.ServerName{Pattern: ir.ParseIngressHost("a.test"), Terminate: &ir.Terminate{Certificates: []ir.CertificateID{"1"}}})
	names.Set(&ir.ServerName{Pattern: ir.ParseIngressHost("*.b.test"), Terminate: &ir.Terminate{Certificates: []ir.CertificateID{"1"}}})
	names.Set(&ir.ServerName{Pattern: ir.ParseIngressHost("passed.test"), Passthrough: &ir.Passthrough{}})
	names.Set(&ir.ServerName{Pattern: ir.AnyHost, Terminate: &ir.Terminate{Certificates: []ir.CertificateID{"0"}}})
	return &ir.Config{
		Listeners: []ir.Listener{{ServerNames: names.List()}},
		Certificates: sorted.Of(
			&ir.Certificate{ID: "0", Key: ir.Secret("secret"), CertificateTerm: until(1_900_000_000)},
			&ir.Certificate{ID: "1", Key: ir.Secret("secret"), CertificateTerm: until(1_800_000_000), Origin: ir.Origin{Kind: "Secret", Namespace: "shop", Name: "tls"}},
		),
	}
}

// TestCertificates: the first to expire comes first, with what shows it, and without
// any key.
func TestCertificates(t *testing.T) {
	cfg := certified()
	now := time.Unix(1_800_000_000, 0).Add(-36 * time.Hour)
	text, err := json.Marshal(certificates(cfg, now))
	const want = `[{"secret":"shop/tls","notBefore":"2020-09-13T12:26:40Z","notAfter":"2027-01-15T08:00:00Z","daysLeft":1,"serverNames":["a.test","*.b.test"]},` +
		`{"notBefore":"2020-09-13T12:26:40Z","notAfter":"2030-03-17T17:46:40Z","daysLeft":1158,"serverNames":["*"]}]`
	if err != nil || string(text) != want {
		t.Errorf("%s\nwant\n%s (%v)", text, want, err)
	}
	if got := certificates(cfg, now.Add(48*time.Hour))[0].Days; got != -1 {
		t.Errorf("twelve hours after: %d days left", got)
	}
	if got := certificates(nil, now); len(got) != 0 {
		t.Errorf("without a configuration: %v", got)
	}
	code, body := get(t, New(Options{Stats: exercised(), Config: certified}).Admin(), "/debug/certificates")
	if code != http.StatusOK || !strings.Contains(body, `"shop/tls"`) || strings.Contains(body, `"secret":"secret"`) {
		t.Errorf("%d %s", code, body)
	}
}

// TestCertificateMetrics: ingress-nginx 1.15 has the labels class, host, namespace
// (of the controller) and secret_name, and host "_" for every other.
func TestCertificateMetrics(t *testing.T) {
	o := Options{Stats: exercised(), Config: certified, Class: "k8s.io/ingress-nginx", Namespace: "edge"}
	_, body := get(t, New(o).Health(), "/metrics")
	for _, want := range []string{
		`gatehouse_certificate_expiry_timestamp_seconds{namespace="shop",secret="tls"} 1.8e+09`,
		`gatehouse_certificate_expiry_timestamp_seconds{namespace="",secret=""} 1.9e+09`,
		`nginx_ingress_controller_ssl_expire_time_seconds{class="k8s.io/ingress-nginx",host="a.test",namespace="edge",secret_name="tls"} 1.8e+09`,
		`nginx_ingress_controller_ssl_expire_time_seconds{class="k8s.io/ingress-nginx",host="*.b.test",namespace="edge",secret_name="tls"} 1.8e+09`,
		`nginx_ingress_controller_ssl_expire_time_seconds{class="k8s.io/ingress-nginx",host="_",namespace="edge",secret_name=""} 1.9e+09`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	if strings.Contains(body, "passed.test") {
		t.Error("a certificate of a host that is passed through")
	}
}
