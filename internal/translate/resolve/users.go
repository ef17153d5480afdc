package resolve

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/htpasswd"
	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// usersKey is the key of a Secret that holds an htpasswd file.
const usersKey = "auth"

// Users are "user:hash" lines, without comments, without repeated users and
// without those that cannot log in.
type Users struct {
	Lines ir.Secret
	// Refused are the lines that were left out, Weak those that should not be as
	// they are.
	Refused, Weak htpasswd.Problems
}

// FileUsers reads the htpasswd file under the key "auth".
func FileUsers(v Objects, name types.NamespacedName) (Users, *Problem) {
	secret := v.Secret(name.Namespace, name.Name)
	if secret == nil {
		return Users{}, missingSecret(name)
	}
	file, ok := secret.Data[usersKey]
	if !ok {
		return Users{}, badUsers(name, `it has no key "auth"`, "put an htpasswd file under the key auth, or set auth-secret-type: auth-map")
	}
	return usable(name, htpasswd.ParseFile(file))
}

// MapUsers takes every key of the Secret for a user and its value for the hash.
func MapUsers(v Objects, name types.NamespacedName) (Users, *Problem) {
	secret := v.Secret(name.Namespace, name.Name)
	if secret == nil {
		return Users{}, missingSecret(name)
	}
	// The keys of other types have their own meaning, and are not all at hand.
	if secret.Type != "" && secret.Type != corev1.SecretTypeOpaque {
		return Users{}, badUsers(name, "its type is "+string(secret.Type), "use a Secret of type Opaque")
	}
	return usable(name, htpasswd.ParseMap(secret.Data))
}

// usable gives the users of the Secret, unless there is none.
func usable(name types.NamespacedName, f htpasswd.File) (Users, *Problem) {
	if len(f.Users) > 0 {
		return Users{Lines: f.Lines(), Refused: f.Refused, Weak: f.Weak}, nil
	}
	if f.Refused.Len() == 0 {
		return Users{}, badUsers(name, "it is empty", "write it with htpasswd -nB, a line user:hash for each user")
	}
	return Users{}, badUsers(name, f.Refused.String(), f.Refused.Remedy())
}

func badUsers(name types.NamespacedName, why, remedy string) *Problem {
	return &Problem{"", verdict.SecretInvalid, fmt.Sprintf("Secret %s holds no usable users: %s", name, why), remedy}
}
