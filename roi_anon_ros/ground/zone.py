"""How large a robot's stop zone must be, so that it stands before it touches a person.

A collision monitor takes the robot's own motion since the image out of the points, never the
person's. So a person is up to `age` nearer than the newest cloud says, walks on until the robot
stands, and the monitor sees the zone violated one of its cycles late at worst:

    age = latency + period
    standing = cycle + delay + v / b                  (time from the violation until v is 0)
    ahead = w (age + standing) + v (cycle + delay) + v^2 / (2 b) + clearance + error
    aside = w (age + standing) + clearance + error

with v the robot's speed, b its braking, w the person's walking speed. `ahead` is from the robot's
front edge, `aside` from its side edge.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StopZone:
    """Where the stop zone must reach to.

    Attributes:
        ahead: metres in front of the robot's front edge.
        aside: metres from each side edge.
        age: of the newest known position at worst, seconds.
        standing: seconds from the violation until the robot stands.
    """

    ahead: float
    aside: float
    age: float
    standing: float


def size_stop_zone(
    latency: float,
    period: float,
    walking: float = 1.6,
    speed: float = 0.5,
    braking: float = 1.0,
    cycle: float = 0.05,
    delay: float = 0.1,
    clearance: float = 0.2,
    error: float = 0.3,
) -> StopZone:
    """Size the stop zone.

    Args:
        latency: from the image's stamp until the cloud arrives, seconds; take the 99 % one.
        period: between two clouds, seconds.
        walking: speed of a person who walks towards the robot, m/s; 1.6 is EN ISO 13855's.
        speed: the robot's, m/s.
        braking: the robot's deceleration, m/s^2.
        cycle: between two outputs of the collision monitor, seconds.
        delay: from the monitor's output until the wheels brake, seconds.
        clearance: what must remain between them, metres.
        error: of a person's position, and the half width of a body that the points leave out,
            metres; take the 95 % one.

    Raises:
        ValueError: a number is negative, or braking is 0.
    """
    given = {
        "latency": latency,
        "period": period,
        "walking": walking,
        "speed": speed,
        "cycle": cycle,
        "delay": delay,
        "clearance": clearance,
        "error": error,
    }
    for name, value in given.items():
        if not value >= 0:
            raise ValueError(f"{name}: got {value:g}, must be 0 or more")
    if not braking > 0:
        raise ValueError(f"braking: got {braking:g}, must be above 0")
    age = latency + period
    standing = cycle + delay + speed / braking
    approached = walking * (age + standing)
    driven = speed * (cycle + delay) + speed**2 / (2 * braking)
    margin = clearance + error
    return StopZone(approached + driven + margin, approached + margin, age, standing)
