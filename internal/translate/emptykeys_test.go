package translate

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// TestEmptyKeysOfGuards: a key that is there and empty, as a job that failed leaves it,
// is broken, and closes: it is not as if it were not there. ingress-nginx 1.15 takes
// an empty ca.crl for none.
func TestEmptyKeysOfGuards(t *testing.T) {
	f := func(secret string, empty map[string]string, annotations ...string) {
		t.Helper()
		store := view.NewStore()
		for _, o := range objectsOf(t, svc("a")+secret+"---\n"+annotated("shop", one("Prefix / a"), annotations...)) {
			if s, ok := o.(*corev1.Secret); ok {
				if s.Data == nil {
					s.Data = map[string][]byte{}
				}
				for key, text := range empty {
					s.Data[key] = []byte(text)
				}
			}
			store.Apply([]metav1.Object{o}, nil)
		}
		cfg, report := Build(store.View(), testOptions(t))
		if got := plain(cfg); got != "http one.com\n  Element / -> 503 GuardInvalid (shop)\n" {
			t.Errorf("%v, %q: %s", annotations, empty, got)
		}
		told := false
		for _, v := range report.Verdicts {
			told = told || v.Severity == verdict.Rejected && v.Reason == verdict.SecretInvalid
		}
		if !told {
			t.Errorf("%v, %q: %s", annotations, empty, showVerdicts(report.Verdicts))
		}
	}
	const ca, pair, nothing = "CA default/x\n", "TLS default/x ecdsa one.com\n", "apiVersion: v1\nkind: Secret\nmetadata: {namespace: default, name: x}\n"
	for _, blank := range []string{"", "\n", " "} {
		f(ca, map[string]string{"ca.crl": blank}, "auth-tls-secret: x")
		f(ca, map[string]string{"ca.crl": blank}, "auth-tls-secret: x", "auth-tls-verify-client: optional")
		f(ca, map[string]string{"ca.crt": blank}, "auth-tls-secret: x")
		f(nothing, map[string]string{"auth": blank}, "auth-type: basic", "auth-secret: x")
		f(nothing, map[string]string{"user": blank}, "auth-type: basic", "auth-secret: x", "auth-secret-type: auth-map")
		f(ca, map[string]string{"ca.crl": blank}, "proxy-ssl-secret: x", "proxy-ssl-verify: on", "backend-protocol: HTTPS")
		f(ca, map[string]string{"ca.crl": blank}, "proxy-ssl-secret: x", "backend-protocol: HTTPS")
		f(ca, map[string]string{"ca.crt": blank}, "proxy-ssl-secret: x", "backend-protocol: HTTPS")
		f(ca, map[string]string{"tls.crt": blank, "tls.key": blank}, "proxy-ssl-secret: x", "proxy-ssl-verify: on", "backend-protocol: HTTPS")
		f(pair, map[string]string{"ca.crt": blank}, "proxy-ssl-secret: x", "backend-protocol: HTTPS")
		f(pair, map[string]string{"tls.key": blank}, "proxy-ssl-secret: x", "backend-protocol: HTTPS")
	}
	// Where there is no key at all nothing is asked for.
	cfg, report := Build(viewOf(t, svc("a")+ca+"---\n"+annotated("shop", one("Prefix / a"), "auth-tls-secret: x")), testOptions(t))
	if got := plain(cfg); !strings.Contains(got, "default/a:80") || len(report.Verdicts) > 0 {
		t.Errorf("%s %s", got, showVerdicts(report.Verdicts))
	}
}
