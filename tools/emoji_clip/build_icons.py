"""Rasterise openly licensed icons of the things that emoji show.

The icons add shapes and drawing styles to the few emoji styles. An icon is used if its name,
without style words such as "outline" or "bold", is the name of an emoji or of a class, or one of
the common names of a class in ``COMMON_NAMES``.
"""

import argparse
import re
from pathlib import Path

import numpy as np
from build_images import STYLES, as_svg, load_emoji_names, rasterise, read_json, squash
from classes import load_classes

LICENCES = {"Apache-2.0", "MIT", "ISC", "CC0-1.0", "CC-BY-4.0"}

STYLE_WORDS = frozenset(
    """
    outline outlined fill filled bold thin light duotone linear broken sharp rounded round solid
    line twotone variant alt regular duo tone two color one remix streamline emoji icon
    print flat animal food i
    """.split()
)

# Names in icon sets for the things of a class. Names that mean something else there, such as
# "mouse" or "apple", are in OTHER_MEANINGS.
COMMON_NAMES = {
    "airplane": "plane, aeroplane, flight, airport, travel airplane",
    "angry face": "angry, mood angry, smiley angry, emoticon angry, emoji angry, face angry",
    "apple": "food apple, apple fruit, fruit apple, apple whole",
    "bag": "shopping bag, handbag, suitcase, backpack, briefcase, luggage, baggage",
    "ball": "football, soccer, basketball, volleyball, baseball, soccer ball, tennis ball",
    "bed": "bed single, bed double, single bed, hotel bed",
    "beer": "beer mug, beer glass, pint",
    "bicycle": "bike, cycling, pedal bike, directions bike",
    "bird": "dove, pigeon, parrot",
    "boat": "ship, sailboat, sailing, ferry, yacht",
    "book": "books, book open, open book, notebook, book closed, menu book, book opened",
    "bread": "baguette, toast, croissant, bread slice, bakery",
    "building": "buildings, office, office building, skyscraper, hospital, hotel, apartment",
    "bus": "bus front, bus side, directions bus, school bus",
    "butterfly": "butterflies",
    "cake": "birthday cake, cupcake, cake slice, cake birthday",
    "camera": "video camera, photo camera, camera photo",
    "candle": "candles",
    "candy": "lollipop, sweets, chocolate",
    "car": "automobile, car front, car side, taxi, sedan, police car, directions car",
    "castle": "fort, chess rook",
    "chair": "armchair, sofa, couch, desk chair, seat",
    "cheese": "cheese wedge",
    "cherries": "cherry, fruit cherries, fruit cherry",
    "church": "chapel",
    "clock": "watch, stopwatch, alarm, alarm clock, timer, wall clock, smart watch",
    "cloud": "rain, cloud rain, cloudy, snow, cloud snow, storm, cloud lightning, thunderstorm",
    "computer": "laptop, desktop, monitor, keyboard, device laptop, laptop mac, desktop pc",
    "cup of coffee": "coffee, mug, tea, coffee cup, cup, tea cup, hot drink, mug hot",
    "dinosaur": "dino",
    "door": "door closed, door front, door open",
    "doughnut": "donut, cookie, donuts",
    "drum": "drums",
    "envelope": "mail, email, letter, mail open",
    "fist": "hand fist, hand back fist, raised fist",
    "flower": "tulip, rose, sunflower, lotus, flower tulip, flower lotus",
    "gift": "present, gift box, giftbox",
    "glass of wine": "wine, wine glass, cocktail, martini, champagne, martini glass, wine bar",
    "glasses": "eyeglasses, sunglasses, eyeglass, goggles, eyewear",
    "globe": "earth, world, planet earth",
    "grapes": "grape, fruit grapes",
    "guitar": "violin, guitar electric, guitar acoustic, banjo",
    "hamburger": "burger, sandwich, hot dog, hotdog, lunch dining",
    "hammer": "axe, pickaxe, gavel",
    "hand": "hand wave, waving hand, hand stop, palm, hand open, hand waving, raised hand",
    "happy face": "smile, smiley, happy, grin, laugh, mood happy, mood smile, smiley happy, "
    "emoticon happy, emoticon, emoji happy, smiling face, sentiment satisfied, face smile, "
    "face grin, face laugh, emoji smile, emoji laughing, laughing, smiley face, joyful",
    "hat": "top hat, cap, baseball cap, graduation cap, crown, hard hat, helmet, cowboy hat",
    "heart": "favorite, love, hearts, heart broken, broken heart, cards heart",
    "horse": "horse head, unicorn, horse toy",
    "hourglass": "hourglass full, hourglass empty, timer sand, hourglass end, hourglass start",
    "house": "home, cottage, houses, home simple, hut, cabin",
    "ice cream": "icecream, ice cream cone, popsicle",
    "insect": "bug, ant, bee, beetle, ladybug, mosquito, fly",
    "lemon": "lime, fruit citrus, citrus",
    "light bulb": "lightbulb, bulb, flashlight, light bulb on, torch",
    "lock": "padlock, unlock, locked, unlocked, lock open, lock closed",
    "mailbox": "mailbox open, markunread mailbox, letter box, letterbox",
    "meat": "chicken leg, drumstick, steak, bacon, food drumstick, chicken thigh",
    "medal": "award, military medal",
    "money": "cash, coin, coins, banknote, money bag, payments",
    "moon": "crescent, crescent moon, moon waning crescent, moon full, half moon",
    "motorcycle": "motorbike, scooter, moped, two wheeler, motorcycles",
    "mountain": "mountains, volcano",
    "mouse": "rat, rodent",
    "pencil": "pen, paintbrush, crayon, paint brush, fountain pen, pen nib, edit pencil",
    "pepper": "chili, chilli, chili pepper, bell pepper, pepper hot, chilli hot",
    "pig": "piggy, piggy bank",
    "pizza": "pizza slice, local pizza",
    "pumpkin": "halloween, jack o lantern, halloween pumpkin",
    "rabbit": "hare, bunny, rabbit variant",
    "rice": "bowl rice, rice bowl, rice ball",
    "ring": "diamond ring, wedding ring",
    "robot": "bot, smart toy",
    "rocket": "rocket launch, spaceship, space shuttle",
    "sad face": "sad, frown, cry, crying, mood sad, emoticon sad, smiley sad, unhappy, face frown, "
    "face sad tear, face sad cry, sentiment dissatisfied, sentiment sad, crying face, emoji sad, "
    "mood cry, mood bad, emoji frown, sad face",
    "scissors": "scissor",
    "shirt": "t shirt, tshirt, tee, clothes, dress, coat, jacket, apparel",
    "shoe": "shoes, sneaker, high heel, boot, shoe heel, running shoe, high heels, sandal",
    "skull": "skeleton, skull crossbones",
    "snake": "python snake, cobra",
    "soup": "noodles, bowl food, ramen, noodle, soup kitchen, ramen dining",
    "spider": "scorpion, spider black",
    "star": "stars, shining star",
    "sun": "sunny, sunshine, day sunny, clear day, wb sunny, brightness high",
    "sword": "swords, knife, dagger, kitchen knife, crossed swords",
    "telephone": "phone, mobile, smartphone, mobile phone, cellphone, device mobile, iphone",
    "television": "tv, monitor tv, tv old, device tv",
    "train": "subway, metro, tram, railway, locomotive, directions railway, train front",
    "tree": "pine tree, palm tree, pine, christmas tree, trees, tree palm, tree evergreen, forest",
    "trophy": "cup trophy, emoji events, winner cup, award trophy, champion",
    "trousers": "pants, jeans, shorts",
    "truck": "delivery truck, lorry, local shipping, ambulance, fire truck, van, firetruck",
    "trumpet": "saxophone, trombone",
    "umbrella": "umbrella open, beach umbrella, umbrella closed, open umbrella",
}
OTHER_MEANINGS = {"mouse", "apple", "bat", "cricket", "fly", "orange", "turkey"}


def list_sets(node_modules, packages):
    """List the icon sets in package.json that are not emoji styles, and whether they are coloured.

    The artists of the test styles have drawn other sets (``fluent``, ``fluent-color``,
    ``fluent-emoji-high-contrast``, ``fluent-mdl2``). Do not add these.
    """
    sets = []
    for package in read_json(packages)["dependencies"]:
        scope, _, name = package.partition("/")
        if scope == "@iconify-json" and name not in STYLES:
            info = read_json(node_modules / package / "info.json")
            if info["license"]["spdx"] not in LICENCES:
                raise ValueError(f"The licence of {package} must be one of {sorted(LICENCES)}.")
            sets.append((name, info["palette"]))
    return sets


def plain_name(icon):
    """Remove style words and numbers from the name of an icon."""
    words = [re.sub(r"\d+$", "", word) for word in icon.split("-")]
    return " ".join(word for word in words if word and word not in STYLE_WORDS)


class NameMatcher:
    """Finds the emoji, or the class, that the name of an icon stands for."""

    def __init__(self, emoji):
        classes = load_classes([entry["name"] for entry in emoji])
        class_names = list(classes)
        class_of = {n: c for c, members in enumerate(classes.values()) for n in members}
        self.emoji, self.classes = {}, {}
        for number, entry in enumerate(emoji):
            for name in [entry["name"], *entry["keywords"][:1]]:
                self.emoji.setdefault(squash(name), number)
        for c, name in enumerate(class_names):
            names = [name, *COMMON_NAMES.get(name, "").split(", ")]
            names += [name + " face", name + " head", name + "s"]
            for known in filter(None, names):
                self.classes.setdefault(squash(known), c)
        self.class_of = class_of
        self.other = {squash(name) for name in OTHER_MEANINGS}

    def __call__(self, name):
        """Find the number of an emoji and of a class, or -1 if there is none."""
        key = squash(name)
        if key in self.other:
            return -1, -1
        number = self.emoji.get(key, -1)
        return number, self.classes.get(key, self.class_of.get(number, -1))


def main():
    """Draw the chosen icons of all sets into one ``.npz`` file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--node-modules", type=Path, default="node_modules")
    parser.add_argument("--packages", type=Path, default="package.json")
    parser.add_argument("--out", type=Path, default="build/icons.npz")
    args = parser.parse_args()

    match = NameMatcher(load_emoji_names(args.node_modules))
    columns = {key: [] for key in ("images", "sets", "numbers", "classes", "names", "coloured")}
    for name_of_set, coloured in list_sets(args.node_modules, args.packages):
        icon_set = read_json(args.node_modules / "@iconify-json" / name_of_set / "icons.json")
        start = len(columns["names"])
        for icon, entry in icon_set["icons"].items():
            name = plain_name(icon)
            number, class_ = match(name)
            if entry.get("hidden") or number == class_ == -1:
                continue
            image = rasterise(as_svg(icon_set, icon).replace("currentColor", "#000"))
            if image[..., 3].mean() < 5:
                continue
            row = (image, name_of_set, number, class_, name, coloured)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
        print(f"{name_of_set}: {len(columns['names']) - start} icons", flush=True)
    np.savez(args.out, **columns)


if __name__ == "__main__":
    main()
