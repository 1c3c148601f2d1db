package node

import "time"

//detlint:allow time not looked at here
func Free() time.Time { go func() {}(); return time.Now() }
