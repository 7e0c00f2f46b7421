"""A tester that crashes, hangs or takes memory, as it is told; in a file that is soon imported by a new process."""

import os
import sys
import time


def crashing_tester():
    def test(case):
        if case == "abort":
            print("what C++ says", file=sys.stderr, flush=True)
            os.abort()
        if case == "hang":
            time.sleep(600)
        if case == "memory":
            return {"size": len(bytearray(2**27))}
        if case == "too much":
            bytearray(2**31)
        return {"case": case}

    return test
