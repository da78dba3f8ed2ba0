package auth

import (
	"fmt"
	"strings"
)

// Method is how a client proves who it is. The zero value is MethodReject.
type Method uint8

// The methods, under the names pg_hba.conf gives them.
const (
	MethodReject   Method = iota // nobody gets in
	MethodTrust                  // everybody does
	MethodPassword               // cleartext password
	MethodMD5                    // md5, or SCRAM for users with a verifier
	MethodScram                  // SCRAM-SHA-256 and -PLUS
	MethodCert                   // TLS client certificate
	MethodHBA                    // in the configuration: rules choose one of the others
)

// methodNames are the words of the configuration, by Method.
var methodNames = [...]string{
	MethodReject:   "reject",
	MethodTrust:    "trust",
	MethodPassword: "password",
	MethodMD5:      "md5",
	MethodScram:    "scram-sha-256",
	MethodCert:     "cert",
	MethodHBA:      "hba",
}

// String is the method's word in the configuration.
func (m Method) String() string { return methodNames[m] }

func parseMethod(name string) (Method, error) {
	for method, known := range methodNames {
		if name == known {
			return Method(method), nil
		}
	}
	return 0, fmt.Errorf("%q is not one of %s", name, strings.Join(methodNames[:], ", "))
}
