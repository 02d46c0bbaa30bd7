"""What the small world's stories are about: places, wishes, things, and how it ends well or badly."""

from __future__ import annotations

from typing import NamedTuple


class Scenario(NamedTuple):
    place: str
    wish: str
    """Follows "wanted to" and precedes the object."""
    objects: tuple[str, str, str]
    tool: str
    misfortune: str
    fortune: str
    good_end: str
    """`{o}` is the object."""
    bad_end: str


NAMES = {
    "he": ("Tom", "Ben", "Sam", "Jack", "Peter", "David", "Oscar", "Henry"),
    "she": ("Anna", "Mary", "Lucy", "Emma", "Clara", "Nina", "Julia", "Rosa"),
}
COMPANIONS = ("mother", "father", "sister", "brother", "uncle", "teacher", "neighbor", "cousin")

FEELINGS = {
    "happy": ("happy", "glad", "cheerful"),
    "excited": ("proud", "thrilled", "amazed"),
    "sad": ("sad", "gloomy", "lonely"),
    "angry": ("angry", "upset", "bitter"),
}
"""Words that a story of each mood may say of its protagonist."""
GOOD_MOODS, BAD_MOODS = ("happy", "excited"), ("sad", "angry")

SCENARIOS = tuple(
    Scenario(*row)
    for row in (
        ("lake", "catch a big", ("fish", "trout", "eel"), "net", "the boat had a hole", "the water was calm",
         "fried the {o} for dinner", "rowed home without the {o}"),
        ("kitchen", "bake a sweet", ("cake", "pie", "loaf"), "oven", "the flour was full of bugs",
         "the dough was warm and soft", "ate the {o} with butter", "threw the burnt {o} away"),
        ("garden", "grow a giant", ("pumpkin", "carrot", "rose"), "shovel", "the rain never came",
         "the soil was dark and rich", "picked the {o} from the dirt", "watched the {o} dry up"),
        ("farm", "buy a young", ("horse", "cow", "goat"), "rope", "the farmer wanted more coins",
         "the farmer asked for few coins", "led the {o} to the barn", "left the {o} behind the fence"),
        ("school", "read a long", ("book", "poem", "letter"), "lamp", "the pages were torn", "the words were easy",
         "finished the {o} before class", "closed the {o} before the end"),
        ("market", "sell an old", ("clock", "chair", "mirror"), "cart", "nobody stopped to look",
         "many buyers came early", "traded the {o} for silver", "carried the {o} back unsold"),
        ("forest", "find a rare", ("mushroom", "flower", "berry"), "basket", "the fog was thick",
         "the path was clear", "put the {o} in the basket", "got lost before seeing the {o}"),
        ("beach", "build a tall", ("castle", "tower", "bridge"), "bucket", "the waves were strong",
         "the sand was wet and firm", "put a flag on the {o}", "saw the {o} fall into the sea"),
        ("mountain", "climb a steep", ("cliff", "peak", "hill"), "axe", "snow began to fall",
         "the sun was shining", "stood on top of the {o}", "turned back below the {o}"),
        ("theater", "sing a lovely", ("song", "tune", "ballad"), "piano", "the piano was broken",
         "the crowd was kind", "bowed after the {o}", "forgot half of the {o}"),
        ("hospital", "help a sick", ("baby", "patient", "soldier"), "medicine", "the doctor was away",
         "the nurse knew the cure", "saw the {o} smile again", "cried beside the {o}"),
        ("airport", "fly a small", ("plane", "kite", "balloon"), "map", "the wind was too wild",
         "the wind was gentle", "landed the {o} on the grass", "crashed the {o} into a tree"),
        ("museum", "paint a famous", ("portrait", "ship", "king"), "brush", "the colors were too dark",
         "the colors were bright", "hung the {o} on the wall", "spilled ink over the {o}"),
        ("office", "fix a slow", ("computer", "printer", "phone"), "screwdriver", "a wire was missing",
         "the problem was simple", "turned on the {o} at last", "sent the {o} to the trash"),
        ("stadium", "win a golden", ("medal", "trophy", "ring"), "ball", "the team played badly",
         "the team played well", "raised the {o} above the crowd", "lost the {o} in the last minute"),
        ("palace", "fight a fierce", ("dragon", "troll", "knight"), "sword", "the sword was dull",
         "the sword was sharp", "chased the {o} from the kingdom", "ran away from the {o}"),
        ("zoo", "feed a hungry", ("lion", "monkey", "bear"), "meat", "the cage was locked",
         "the keeper opened the cage", "patted the {o} on the nose", "heard the {o} growl all night"),
        ("station", "meet a fast", ("train", "bus", "tram"), "ticket", "the ticket was wrong",
         "the ticket was cheap", "rode the {o} to the city", "missed the {o} by one second"),
        ("workshop", "make a wooden", ("table", "drum", "doll"), "hammer", "the nails were bent",
         "the wood was smooth", "polished the {o} with oil", "broke the {o} in two"),
        ("cave", "dig up a hidden", ("treasure", "diamond", "bone"), "torch", "the torch went out",
         "the torch burned well", "showed the {o} to the village", "never touched the {o}"),
        ("church", "ring a heavy", ("bell", "gong", "chime"), "ladder", "the ladder was weak",
         "the ladder was solid", "heard the {o} across the valley", "dropped the {o} on the floor"),
        ("harbor", "launch a silver", ("rocket", "robot", "probe"), "fuel", "the engine was cold",
         "the engine was ready", "watched the {o} reach the stars", "saw the {o} explode in space"),
        ("bakery", "wash a dirty", ("dog", "wagon", "window"), "soap", "the soap was gone",
         "the soap made many bubbles", "dried the {o} with a towel", "covered the {o} with mud"),
        ("party", "wear a fancy", ("dress", "hat", "coat"), "needle", "the sleeve was ripped",
         "the cloth was soft silk", "danced in the {o} all evening", "hid the {o} in a closet"),
    )
)  # fmt: skip
