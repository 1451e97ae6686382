"""The classes of the emoji image set: an everyday name and the emoji that belong to it."""

# name: emoji; emoji; ... (names as in emojibase-data, in any case)
_TABLE = """
monkey: monkey face; monkey; gorilla; orangutan
dog: dog face; dog; guide dog; service dog; poodle
wolf: wolf
fox: fox
cat: cat face; cat; black cat; grinning cat; cat with tears of joy; pouting cat; weary
    cat
lion: lion
tiger: tiger face; tiger
horse: horse face; horse; unicorn; zebra; donkey
deer: deer; moose
cow: cow face; cow; ox; water buffalo; bison
pig: pig face; pig; boar
sheep: ram; ewe; goat
camel: camel; two-hump camel; llama
giraffe: giraffe
elephant: elephant; mammoth
rhinoceros: rhinoceros
hippopotamus: hippopotamus
mouse: mouse face; mouse; rat; hamster
rabbit: rabbit face; rabbit
bear: bear; polar bear
koala: koala
panda: panda
kangaroo: kangaroo
bat: bat
chicken: chicken; rooster; turkey
chick: hatching chick; baby chick; front-facing baby chick
bird: bird; dove; eagle; parrot; goose; black bird
duck: duck; swan
owl: owl
penguin: penguin
peacock: peacock
frog: frog
crocodile: crocodile
turtle: turtle
lizard: lizard
snake: snake
dragon: dragon face; dragon
dinosaur: sauropod; T-Rex
whale: spouting whale; whale; orca
dolphin: dolphin
shark: shark
fish: fish; tropical fish; blowfish
octopus: octopus; squid; jellyfish
crab: crab; lobster; shrimp
snail: snail
butterfly: butterfly
spider: spider; scorpion
insect: bug; ant; honeybee; beetle; lady beetle; cricket; cockroach; mosquito; fly
flower: cherry blossom; white flower; rosette; hibiscus; sunflower; blossom; tulip;
    rose; lotus; hyacinth; bouquet
tree: evergreen tree; deciduous tree; palm tree; Christmas tree; leafless tree
cactus: cactus
leaf: herb; shamrock; four leaf clover; maple leaf; fallen leaf; leaf fluttering in
    wind
mushroom: mushroom; brown mushroom
grapes: grapes; blueberries
melon: melon; watermelon
orange: tangerine
lemon: lemon; lime
banana: banana
pineapple: pineapple
apple: red apple; green apple
pear: pear
cherries: cherries
strawberry: strawberry
carrot: carrot
corn: ear of corn
pepper: hot pepper; bell pepper
broccoli: broccoli; leafy green
bread: bread; croissant; baguette bread; bagel; pretzel; flatbread
cheese: cheese wedge
meat: meat on bone; poultry leg; cut of meat; bacon
hamburger: hamburger; sandwich; hot dog
pizza: pizza
rice: cooked rice; curry rice; rice ball
soup: steaming bowl; pot of food; bowl with spoon
sushi: sushi
ice cream: soft ice cream; ice cream; shaved ice
cake: birthday cake; shortcake; cupcake; pie
doughnut: doughnut; cookie
candy: candy; lollipop; chocolate bar
cup of coffee: hot beverage; teacup without handle
glass of wine: wine glass; cocktail glass; tropical drink; clinking glasses
beer: beer mug; clinking beer mugs
globe: globe showing Europe-Africa; globe showing Americas; globe showing
    Asia-Australia; globe with meridians
mountain: snow-capped mountain; mountain; volcano; mount fuji
house: house; house with garden; houses; derelict house; hut
building: office building; hospital; bank; hotel; department store; school; post
    office; Japanese post office; convenience store; love hotel; classical building
castle: castle; Japanese castle
church: church; wedding
train: locomotive; railway car; high-speed train; bullet train; train; metro; light
    rail; tram; station; tram car
bus: bus; oncoming bus; trolleybus; minibus
car: automobile; oncoming automobile; taxi; oncoming taxi; police car; oncoming police
    car; racing car; sport utility vehicle
truck: delivery truck; articulated lorry; pickup truck; fire engine; ambulance
tractor: tractor
motorcycle: motorcycle; motor scooter
bicycle: bicycle
boat: sailboat; canoe; speedboat; passenger ship; ferry; motor boat; ship
airplane: airplane; small airplane; airplane departure; airplane arrival
helicopter: helicopter
rocket: rocket
clock: alarm clock; mantelpiece clock; twelve o’clock; three o’clock; six o’clock;
    nine o’clock; watch; stopwatch; timer clock
hourglass: hourglass done; hourglass not done
moon: crescent moon; full moon; first quarter moon; last quarter moon; waxing crescent
    moon; waning crescent moon; full moon face; new moon face; first quarter moon
    face; last quarter moon face
sun: sun; sun with face
star: star; glowing star
cloud: cloud; cloud with rain; cloud with snow; cloud with lightning; sun behind
    cloud; sun behind rain cloud
umbrella: closed umbrella; umbrella; umbrella with rain drops; umbrella on ground
snowman: snowman; snowman without snow
pumpkin: jack-o-lantern
gift: wrapped gift
medal: military medal; sports medal; 1st place medal; 2nd place medal; 3rd place medal
trophy: trophy
ball: soccer ball; baseball; softball; basketball; volleyball; american football;
    rugby football; tennis
glasses: glasses; sunglasses; goggles
shirt: t-shirt; lab coat; running shirt; coat; woman’s clothes; kimono; dress
trousers: jeans; shorts
bag: purse; handbag; clutch bag; shopping bags; backpack; briefcase; luggage
shoe: man’s shoe; running shoe; hiking boot; flat shoe; high-heeled shoe; woman’s
    sandal; woman’s boot; thong sandal
hat: woman’s hat; top hat; graduation cap; billed cap; military helmet; rescue
    worker’s helmet; crown
ring: ring
bell: bell; bellhop bell
guitar: guitar; banjo; violin
trumpet: trumpet; saxophone; trombone; postal horn
drum: drum; long drum
telephone: telephone; telephone receiver; mobile phone; pager
computer: laptop; desktop computer; keyboard
camera: camera; camera with flash; video camera; movie camera
television: television
light bulb: light bulb; flashlight
candle: candle; diya lamp
book: closed book; open book; green book; blue book; orange book; books; notebook;
    notebook with decorative cover
money: yen banknote; dollar banknote; euro banknote; pound banknote; money bag; coin
envelope: envelope; e-mail; incoming envelope; envelope with arrow
mailbox: closed mailbox with raised flag; closed mailbox with lowered flag; open
    mailbox with raised flag; open mailbox with lowered flag; postbox
pencil: pencil; fountain pen; pen; crayon; paintbrush
calendar: calendar; tear-off calendar; spiral calendar
lock: locked; unlocked; locked with pen; locked with key
key: key; old key
hammer: hammer; pick; axe; hammer and pick
sword: dagger; crossed swords; kitchen knife
scissors: scissors
bed: bed; person in bed
chair: chair; couch and lamp; seat
door: door
hand: waving hand; raised hand; hand with fingers splayed; vulcan salute; raised back
    of hand; OK hand; victory hand; call me hand; love-you gesture; sign of the horns
fist: raised fist; oncoming fist; left-facing fist; right-facing fist
heart: red heart; blue heart; green heart; yellow heart; purple heart; orange heart;
    black heart; white heart; sparkling heart; growing heart; heart with arrow; heart
    with ribbon; broken heart
happy face: grinning face; grinning face with big eyes; grinning face with smiling
    eyes; beaming face with smiling eyes; grinning squinting face; smiling face with
    smiling eyes; slightly smiling face; smiling face
sad face: crying face; loudly crying face; disappointed face; frowning face; slightly
    frowning face; pensive face; worried face
angry face: angry face; enraged face; face with symbols on mouth; face with steam from
    nose
robot: robot
ghost: ghost
skull: skull; skull and crossbones
"""


def load_classes(emoji_names):
    """Find the emoji of every class.

    Parameters
    ----------
    emoji_names : sequence of str
        Name of each emoji, in the order of its number.

    Returns
    -------
    classes : dict of str to list of int
        Numbers of the emoji of each class, in the order of the table.
    """
    number = {name.lower(): i for i, name in enumerate(emoji_names)}
    classes = {}
    for entry in _TABLE.replace("\n    ", " ").strip().splitlines():
        class_name, members = entry.split(":")
        members = [member.strip().lower() for member in members.split(";")]
        classes[class_name] = [number[member] for member in members]
    return classes
