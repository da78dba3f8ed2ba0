package pool

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDefaultConfigIsValid(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
}

func TestValidateNamesEveryFaultyKey(t *testing.T) {
	c := DefaultConfig()
	c.Mode, c.Size, c.MinIdle, c.Reserve, c.WaitTimeout, c.LoginRetry = "lazy", 0, 2, -1, -time.Second, 0
	err := c.Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("Validate returned %v, want a joined error", err)
	}
	var keys []string
	for _, part := range joined.Unwrap() {
		key, rest, found := strings.Cut(part.Error(), ": ")
		if !found || !strings.Contains(rest, ";") {
			t.Errorf("%q does not read key: fault; remedy", part)
		}
		keys = append(keys, key)
	}
	if want := []string{"mode", "size", "min_idle", "reserve", "wait_timeout", "login_retry"}; !reflect.DeepEqual(keys, want) {
		t.Errorf("faulty keys %v, want %v", keys, want)
	}
}

// A number added to Config must be validated too.
func TestValidateKnowsEveryNumber(t *testing.T) {
	c := DefaultConfig()
	everyNumber(t, &c, "", reflect.ValueOf(&c).Elem())
}

// everyNumber sets each number of v, which is c or a part of it, to -1 and back.
func everyNumber(t *testing.T, c *Config, path string, v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("mapstructure")
		if key == "" {
			t.Errorf("%s has no key", field.Name)
		}
		switch field.Type.Kind() {
		case reflect.String, reflect.Bool:
		case reflect.Struct:
			everyNumber(t, c, path+key+".", v.Field(i))
		default:
			old := v.Field(i).Int()
			v.Field(i).SetInt(-1)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), path+key+": ") {
				t.Errorf("%s: -1 gives %v, want a fault of that key", path+key, err)
			}
			v.Field(i).SetInt(old)
		}
	}
}
