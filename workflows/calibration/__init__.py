"""Constants of a prediction measured where runs take place: here, or on a deployed stack."""

from workflows.calibration.fit import Observation, calibrated
from workflows.calibration.here import CodecMeasured, KernelMeasured, measure_codec, measure_kernel
from workflows.calibration.trials import Trial, expected_usd, run_trials, trials

__all__ = [
    "CodecMeasured",
    "KernelMeasured",
    "Observation",
    "Trial",
    "calibrated",
    "expected_usd",
    "measure_codec",
    "measure_kernel",
    "run_trials",
    "trials",
]
