"""What a run will take and cost, before it is launched: pure functions over tables, and a simulator.

``profile`` has every constant, with its source; ``workload`` what each worker of a plan does; ``closed_form``
the seconds and dollars of that; ``simulator`` the same with stragglers and tails.
"""

from lamella.prediction.closed_form import Prediction, predict
from lamella.prediction.profile import Profile, load_profile, profile_names
from lamella.prediction.simulator import Simulation, simulate
from lamella.prediction.workload import Activity, Workload, workload_of

__all__ = [
    "Activity",
    "Prediction",
    "Profile",
    "Simulation",
    "Workload",
    "load_profile",
    "predict",
    "profile_names",
    "simulate",
    "workload_of",
]
