"""What the 2017 notebook printed, to the letter, and in which order its cells ran.

The page that survives cuts long lines off: what is missing there is missing here.
"""

import re

# The numbers in front of its code cells, from top to bottom; None never ran.
CELLS = (
    *(3, 1, 389, 459, 428, 457, 464),  # imports; the line
    *(503, 477, 478, None, 505),  # logistic regression
    *(528, 507, 508, 509, 511),  # feed-forward network
    *(529, 516, 519, 530, 531),  # convolutional network
)

KERAS_LINE = """\
[array([[ 0.50820935]], dtype=float32), array([ 0.96137643], dtype=float32)]"""

TENSORFLOW_LINE = "Training cost= 7.84454e-07 W= 0.499193 b= 0.999621"

EPOCHS = {
    "line": """\
loss: 0.11840341240167618 - val_loss: 0.07780846208333969
loss: 0.0613195076584816 - val_loss: 0.029116839170455933
loss: 0.01843276061117649 - val_loss: 0.005032940302044153
loss: 0.004215208347886801 - val_loss: 0.0013901116326451302
loss: 0.0004166064318269491 - val_loss: 0.00045925291487947106
loss: 0.00014951403136365116 - val_loss: 0.00013726545148529112
loss: 7.649453618796542e-05 - val_loss: 3.642608135123737e-05
loss: 1.6197009244933724e-05 - val_loss: 1.188176975119859e-05
loss: 8.289369361591525e-06 - val_loss: 3.334345137773198e-06
loss: 1.8179456446887343e-06 - val_loss: 1.117770580094657e-06""",
    "logistic": """\
loss: 2.243738889694214 - acc: 0.6171875\
 - val_loss: 0.9551129341125488 - val_acc: 0.890625
loss: 1.046567678451538 - acc: 0.8203125\
 - val_loss: 0.6591847538948059 - val_acc: 0.921875
loss: 0.9539118409156799 - acc: 0.734375\
 - val_loss: 0.4772654175758362 - val_acc: 0.9296875
loss: 0.8135160803794861 - acc: 0.8125\
 - val_loss: 0.4343830645084381 - val_acc: 0.921875
loss: 0.7396941781044006 - acc: 0.828125\
 - val_loss: 0.32984787225723267 - val_acc: 0.96875
loss: 0.7155982255935669 - acc: 0.8046875\
 - val_loss: 0.28279608488082886 - val_acc: 0.9921875
loss: 0.8052401542663574 - acc: 0.765625\
 - val_loss: 0.280452162027359 - val_acc: 0.984375
loss: 0.6108319163322449 - acc: 0.828125\
 - val_loss: 0.22645746171474457 - val_acc: 0.9921875
loss: 0.7159842252731323 - acc: 0.7890625\
 - val_loss: 0.21547859907150269 - val_acc: 1.0
loss: 0.6562367677688599 - acc: 0.8046875\
 - val_los""",
    "feed-forward": """\
loss: 2.357222318649292 - acc: 0.1484375\
 - val_loss: 2.2194454669952393 - val_acc: 0.28125
loss: 2.257216453552246 - acc: 0.2421875\
 - val_loss: 2.149240016937256 - val_acc: 0.4140625
loss: 2.1923890113830566 - acc: 0.359375\
 - val_loss: 2.0849528312683105 - val_acc: 0.4140625
loss: 2.0928196907043457 - acc: 0.40625\
 - val_loss: 1.9503047466278076 - val_acc: 0.546875
loss: 2.0281476974487305 - acc: 0.453125\
 - val_loss: 1.8639016151428223 - val_acc: 0.6796875
loss: 1.9074482917785645 - acc: 0.625\
 - val_loss: 1.762959599494934 - val_acc: 0.671875
loss: 1.7573871612548828 - acc: 0.6484375\
 - val_loss: 1.6267309188842773 - val_acc: 0.765625
loss: 1.6207945346832275 - acc: 0.6796875\
 - val_loss: 1.511582612991333 - val_acc: 0.7734375
loss: 1.5492334365844727 - acc: 0.6953125\
 - val_loss: 1.4011660814285278 - val_acc: 0.7421875
loss: 1.3828023672103882 - acc: 0.8125\
 - val_loss:""",
    "convolutional": """\
loss: 1.0250860452651978 - acc: 0.6875\
 - val_loss: 0.016407014802098274 - val_acc: 1.0
loss: 0.22624161839485168 - acc: 0.90625\
 - val_loss: 0.00957321748137474 - val_acc: 1.0
loss: 0.19930750131607056 - acc: 0.96875\
 - val_loss: 0.004512276966124773 - val_acc: 1.0
loss: 0.07598122954368591 - acc: 1.0\
 - val_loss: 0.003296941053122282 - val_acc: 1.0
loss: 0.17946262657642365 - acc: 0.9375\
 - val_loss: 0.0025500478222966194 - val_acc: 1.0
loss: 0.036343879997730255 - acc: 1.0\
 - val_loss: 0.0017508012242615223 - val_acc: 1.0
loss: 0.11032424122095108 - acc: 0.96875\
 - val_loss: 0.0011565235909074545 - val_acc: 1.0
loss: 0.11011669039726257 - acc: 0.96875\
 - val_loss: 0.0017978237010538578 - val_acc: 1.0
loss: 0.4545377492904663 - acc: 0.96875\
 - val_loss: 0.002106127794831991 - val_acc: 1.0
loss: 0.07084725052118301 - acc: 0.96875\
 - val_loss: 0.0010846415534615517 - val_acc:""",
}


def by_epoch(model: str) -> list[dict[str, float]]:
    """Return what 2017 printed for a model: name -> figure, a dict an epoch."""
    return [
        {name: float(value) for name, value in re.findall(r"(\w+): ([-\d.e]+)", line)}
        for line in EPOCHS[model].splitlines()
    ]
