"""What a card says in words: what holds of every model that paints, at every site."""

from __future__ import annotations

THREATS = [
    "Who sees packets or decoded images without a right to: a listener on the network, a thief of "
    "the server or its disks, a curious operator. They have the model, which is public.",
    "Who holds images of a person (a photo of the face, images from other cameras) and looks for "
    "this person in what was sent.",
    "Who has no image of anybody and links what was sent: from camera to camera, from day to day.",
    "Who controls the camera itself sees what it sees; nothing here protects against that.",
]
TRANSPARENCY = [
    "People are filmed; what leaves the camera are packets in which the heads that were found are "
    "painted over. Say so at the entrance, with who is responsible and how to object.",
    "Heads that are not found are not hidden. The figures below say how many.",
    "No identity, no embedding and no biometric template is computed when cameras run. Recognisers "
    "are used in this assessment alone.",
    "docs/dpia.md is an annex for a data protection impact assessment, with all but the site and "
    "the purpose filled in.",
]
FEATURES = [
    "Sent: packets with the coded image, the painted regions, sizes, quality and a time stamp. Not "
    "sent: pixels under the paint, sound, detections of the edge.",
    "Direct identifiers: faces, where a head is not found or not wholly painted.",
    "Indirect identifiers, which stay: clothes, build, gait, company, what is carried, place and "
    "time.",
    "Attributes, which stay: what clothes and build tell of sex, age, work or belief.",
]
ATTACKS = [
    "By photo: the attacker has photos of faces, knows where eyes, nose and mouth were, and "
    "compares with a face recogniser that took no part in training.",
    "By clothes and build: the attacker has images from other cameras, knows where in the scene "
    "the person is, and ranks with networks for re-identification that took no part in training.",
    "By linking: the same without any image from elsewhere.",
    "By encoding candidates: the attacker has ten candidates and the rest of the scene, encodes "
    "each candidate, and takes the nearest packet. Nothing is trained.",
    "By a trained decoder: the attacker has the encoder and images of his own, and trains a "
    "network that brings heads back from all that is sent.",
]
SINGLE_OUT = [
    "Whether one person can be told from all others (Recital 26, WP 216). The worst that was "
    "measured, over kinds of images, scenes, qualities and judges.",
]
LINK = [
    "Whether two records can be told to be of one person (WP 216). Hiding heads does not hide "
    "clothes: read the figures of clothes and build first.",
]
INFER = [
    "Whether something about a person can be told who is not recognised (WP 216). Judged by a "
    "network that took no part in training; the truth is its own answer on the clear images of the "
    "same person.",
]
TESTS = [
    "What withstood an attacker withstood this one, at this budget, and no other.",
]
KEY_HOLDERS = [
    "Where regions are sealed, holders of a key open them: for them the images are pseudonymous, "
    "not anonymous, and stay personal data (EDPB 01/2025).",
]
MITIGATION = [
    "Painted before the analysis: what is under the paint never enters the codec.",
    "Static zones are hidden whatever is in them; a head stays hidden for a hold after it was last "
    "found; the edge fails closed.",
    "Not mitigated: clothes, build and gait. Where they matter, hide whole persons (roi-anon "
    "anonymize, region person), keep packets short, and let nobody but the detector see decoded "
    "images.",
    "Packets are not encrypted: use SROS 2 or a network of your own.",
]
GOVERNANCE = [
    "This card holds for the model with its fingerprint alone. Another model, or another release "
    "of it, needs another card.",
    "Before use: measure on images of the site itself, and read the worst kind.",
    "In use: watchdog_node, or roi-anon watch over files, raises the alarm where images show a "
    "face more often than here.",
    "Log: which model, which zones, what was dropped, and every opening of a sealed region "
    "(roi-anon key log verify).",
    "If a head map fails, nothing leaves the camera; if a face was sent, delete the packets and "
    "tell the people as the law asks.",
]
