"""How likely a character is in a language's prose, for text/encodings.py. The figures are natural logarithms."""

import re
from collections.abc import Callable
from functools import lru_cache

# -- Chinese ----------------------------------------------------------------------------------------------------------

# The most common characters of Chinese prose, simplified and traditional, with its punctuation: 30 to 55 in 100.
COMMON = frozenset(
    "的一是不了人我在有他这這个個们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著下自之年过過发發后後作里裡用道"
    "行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理心她本前开開但因只从從想实實"
    "曰此将將见見何无無却卻与與又令马馬兵军軍今吾乃公王老头頭把被叫问問听聽笑话話走身门門手气氣白日山水三二两兩四五十百千万萬"
    "，。、：；！？“”‘’…—「」『』（）《》\n \u3000"
)

# The next most common ones, counted in thirty novels, and some of modern prose: 38 in 100.
FREQUENT = frozenset(
    "师知者回便儿正言等尚妖仙众打金已明声僧真相父神弟若长女至官处云名命外且怎爷风内位口住八文甚入飞往做元路先才宝西"
    "罢花龙死即高未取意孙请夫光几再鬼向难杀各兄太必拿敢火闻坐吃阵空海城黄怪圣安报东唐南非间君忙酒士月放化原精喜连边"
    "倒魔战故灵七母洞齐朝徒应半使张教通尔戒随早望变书既带果虎眼帅情解数拜玉藏营力府少娘善领待亲刀计救臣立世武传佛第"
    "宫礼李虽尽送祖林字收夜直红亦剑功莫曾石急缄九欲哪番转雷须牙银六贼左忽清妇点并念信守首姐归远皆殿济惊害复房求受别"
    "关接赶遂暗落鸣寻姓指余快青氏许物岂色恶合交给汉衣怕华尊观帝右钱则平诸答台童更香重员紫细管破似思及满土苦胜谢全船"
    "矣常竟恐罪般沙英己性谁伤俱目次举觉耳周铁遇差燕徐乱毕堂迎奉留干州姑陈奏喝足星近退虚杨怒贤修旨刻阳秦游步罗黑彼总"
    "跟肯依双妹语紧提服由哥保驾古离照阴木雄比愿脚条斗容告客皇久或深降呼极句岁汝旗假强候德反妙乎响贫毛庙民奔称算根北"
    "春流胡恩草县丈失妻楼敌缘认疑村寺座珠败枪备散逃乐异穿诗枝讲亮什隐凡哩件施轻利叔江美号居持狐弄止悟临食咐招旁封脱"
    "树河婆识钟晚休凤掌晓伏斋店饮牛福跳形吩奈写度灯宗饭结活消屋表执论素担设引霞丹友幸借护势贵辞刚捉哭莲魂义病瞧奇遍"
    "庆邪投俺司术任找卖欢场雨仁刘绝追体梅背窍萨良鼓商帐静景菩免烧脸仇包速忠药顶探登除广摆易盘该完棒慌冰焉皋息跪箭独"
    "班仍侯皮始姜男迷造音玄威议助每猴跑冲赵机兴段旧断骂湘推烟御猪闲尘洪加恨摇车芳伯舍唤院骨赤鱼承擒盗韩喊界约睡节径"
    "初新角试买寿终骑讨乘爱特斩切孝杯甲端慢孤列围毒料况顾象升谓参视治纵舞顺系抬挂刺劳共器换养侍犹惟致郎布梦净野秀吉"
    "志费按峰嘴凶卷胆血底慈庄群灭富微片悲状洋锦争牌站兰户谈永寨苏猛腾肉岭眉田茶杖毫访排陆赏迟席挑让扯逢怀宁劫炼代犯"
    "盖量扇宜吓塘架贝劝昏翻柳寒敬镇松献孩托遭偷腰误诚雪供叹冷饶桃伙监途忍朱改呢负蒙翁乡宿攻昨逆略殷决沉碧雾哉越显痛"
    "尸业准密像闪彩歇装歌赐工感环错调画冤丁夺郑宅砍弃吹属阁倘貌严呆财芦题愚整闹抢顿潮聚穷衙纷记匹扶展案副烦索尺孽园"
    "池勇防宣折狼符猿泪轮曲腹咱影存颠最射付征岸鞭室亡弥单历低亭否章棍鹤芝查击乌扬贞祸愈梁遣渐恼替炮队停京锋露撞偏翠"
    "躲蛇祭率仆瑞咒祥类醒袖壁羊尼昌末丢秋鹿办滚耶怜奴程谷跌贪柜期团阿暂锁敖绿仗证辈谋呀吴避丝史图颜柴拔巧冠俗丘闭荡"
    "启短亏欺陛震拥宾块建荣街吕波运阻铺鸟奸吊袍卿抱禁催兽卜递横笔忘丧坏习恭戴适郡灾抵束词乞叶拾厅床戏飘宽桥混载绳热"
    "某读宴私疾幻豹遥诛达鸡赛焦卒凭辛卧狗愁桌厚派舟蓝据智伸坠顷汤刑悔纸搭专恰惑湖墙陪释午垂诉较惹竹缠粮丫岳怨侄咬碎"
    "督省醉熟泰寸压狂策厉印粉骗披押市层绕嚷逐耍尾示斧职朋圆劈赴踏镜超仰碗判固吐钉浪迹幽浑品睁仲移巡铜捆值鲍旋牵董埋"
    "筋扑渡鼻邓它电吗吧啊哦嗯爸妈医校级警察统境突域裁窗厨睛唇淡讶愤希忆晨秒餐咖啡裤裙鞋帽卡网络频拍录演导组织革弹坦"
    "克舰伍挥帮肤肌肚肩膀胸脑袋舌齿喉颈妃嫔卫鬟婢嫂奶姨舅媳婚嫁鹰猫鸭虫森漠岛屿穴霜焰岩泥钢铅玻璃塑箱瓶筷叉勺锅炉鼎"
    "椅钥匙梯屏幕键鼠标软硬序码科技研究验析审律狱嫌捕抓绑胁勒赎默契寂喧吵拳踢砸摔碰触摸吻抚拉拖拽扔抛捡"
    "師兒衆聲長處雲爺風內飛寶罷龍孫請幾難殺聞喫陣黃聖報東間連邊戰靈齊應張爾隨變書帶帥數營領親計傳宮禮雖盡紅劍緘轉須"
    "銀賊婦點並歸遠濟驚復別關趕鳴尋餘許豈惡給漢華觀錢則諸臺員細滿勝謝誰傷舉覺鐵亂畢幹陳虛楊賢陽遊羅總雙語緊駕離陰願"
    "腳條鬥極歲強響貧廟稱縣樓敵緣認敗槍備樂異詩講隱輕號臨脫樹識鍾鳳曉齋飲寫燈飯結執論擔設護勢貴辭剛蓮義慶術賣歡場劉"
    "絕體竅薩帳靜燒臉藥頂廣擺盤該獨議衝趙機興舊斷罵煙豬閒塵搖車喚魚盜韓約節徑試買壽終騎討愛斬圍況顧謂參視縱順掛勞換"
    "養猶夢淨費峯兇膽莊羣滅狀錦爭蘭戶談蘇騰嶺訪陸賞遲讓懷寧煉蓋嚇貝勸鎮獻託誤誠嘆饒夥監負鄉決霧顯屍業準閃裝賜環錯調"
    "畫奪鄭棄屬閣嚴財蘆題鬧搶頓窮紛記煩園淚輪顛徵彌單歷鶴擊烏揚貞禍漸惱隊鋒僕類丟辦滾憐貪櫃團暫鎖綠證輩謀吳絲圖顏閉"
    "蕩啓虧擁賓塊榮呂運鋪鳥獸遞橫筆喪壞習適災詞葉廳牀戲飄寬橋載繩熱讀遙誅達雞賽憑臥藍據墜頃湯紙專牆釋訴較纏糧嶽壓厲"
    "騙層繞職圓鏡釘跡渾睜銅鮑牽撲鄧電嗎媽醫級統廚脣訝憤憶褲網絡頻錄導組織彈艦揮幫膚腦齒頸嬪衛鷹貓鴨蟲島嶼巖鋼鉛鍋爐"
    "鑰鍵標軟碼驗審獄綁脅贖觸撫拋撿"
)
IMPOSSIBLE = -20.0  # a control character, or a byte that cannot be decoded


@lru_cache(maxsize=2**15)
def ascii_likelihood(c: str) -> float:
    if c.isalpha() or c == " ":
        return -3.2
    if c.isdigit() or c in "\n\r":
        return -4.0
    return -5.0 if c.isprintable() or c in "\t\v\f" else IMPOSSIBLE


@lru_cache(maxsize=2**15)
def chinese(c: str) -> float:
    """Log probability of a character in Chinese prose, about."""
    if c in COMMON:
        return -6.3
    if c in FREQUENT:
        return -8.3
    if c < "\x80":
        return ascii_likelihood(c)
    if "\u4e00" <= c <= "\u9fff":
        return hanzi_by_standard(c)
    for last, likelihood in CHINESE_RANGES:
        if c <= last:
            return likelihood
    return -18.0


CHINESE_RANGES = [  # the last character of a range, and how likely its characters are
    ("\x9f", IMPOSSIBLE),
    ("\xbf", -11.0),
    ("\xff", -9.5),
    ("\u024f", -12.0),
    ("\u058f", -9.0),  # Greek and Cyrillic letters
    ("\u1fff", -14.0),
    ("\u2bff", -11.0),  # punctuation, symbols, lines of boxes
    ("\u2fff", -16.0),
    ("\u312f", -10.0),  # punctuation, Japanese kana
    ("\u33ff", -12.0),
    ("\u4dff", -17.0),  # rare characters
    ("\ud7ff", -14.0),  # Korean syllables
    ("\uf8ff", -17.0),  # for private use
    ("\ufaff", -15.0),
    ("\uff5e", -10.0),  # full-width forms
    ("\ufffd", IMPOSSIBLE),
]


def hanzi_by_standard(c: str) -> float:
    """Characters that are neither COMMON nor FREQUENT: the first level of GB 2312 or Big5, the second, or neither."""
    gb, big5 = c.encode("gb2312", "ignore"), c.encode("big5", "ignore")
    if b"\xb0" <= gb < b"\xd8" or b"\xa4" <= big5 < b"\xc9":
        return -10.5
    return -12.6 if gb or big5 else -16.0


# -- other languages, which must not be taken for Chinese -----------------------------------------------------------


def with_ascii(model: Callable[[str], float]) -> Callable[[str], float]:
    """A language's function for characters beyond ASCII -> the one for all."""
    return lambda c: ascii_likelihood(c) if c < "\x80" else model(c)


@with_ascii
def japanese(c: str) -> float:
    if c in "のにはをたがでてとしれさあいるかなっまりうこくもらよそけ、。「」\u3000":
        return -4.7
    if "\u3040" <= c <= "\u30ff":
        return -7.0
    if "\u4e00" <= c <= "\u9fff":
        return (
            -7.8
            if c in COMMON
            else -9.2
            if c in FREQUENT or b"\xb0" <= c.encode("euc_jp", "ignore") < b"\xd0"
            else -12.6
        )
    return IMPOSSIBLE if c == "\ufffd" else -14.0


@with_ascii
def korean(c: str) -> float:
    if c in "이다는을의에가고하지도한그로나기있은사어리서아들를시자인게스라정만대해과것일으전보제부여수와오니면":
        return -4.7
    if "\uac00" <= c <= "\ud7a3":
        return -8.2 if c.encode("euc_kr", "ignore") else -13.0
    return IMPOSSIBLE if c == "\ufffd" else -12.6


def alphabet(first: str, last: str, common: str, letter: float = -3.0) -> Callable[[str], float]:
    """The function for a language with an alphabet: the range of its letters, and the most common of them."""

    @with_ascii
    def likelihood(c: str) -> float:
        if c in common:
            return letter
        if c in "ÿþðýÞÐÝ×÷":
            return -13.0
        if first <= c <= last:
            return -5.0 if c.islower() else -6.5
        if c in "‘’“”–—…«»\xa0№":
            return -5.0
        return -12.0 if c.isprintable() else IMPOSSIBLE

    return likelihood


latin = alphabet("\xc0", "\u0178", "éèàêçüöäíóáñ", letter=-5.0)
russian = alphabet("\u0400", "\u045f", "оеаинтсрвлк")
greek = alphabet("\u0386", "\u03ce", "αοιετσνηυρκπςμλ")
thai = alphabet("\u0e01", "\u0e5b", "อนารกเงมยลวดท่้สตะีปบัิ", letter=-3.6)
hebrew = alphabet("\u05d0", "\u05ea", "יוהלארבמתשנ")
arabic = alphabet("\u0621", "\u06d2", "اليمونرتبعدسفكهةق", letter=-3.4)


def any_alphabet(c: str) -> float:
    return max(likelihood(c) for likelihood in (latin, russian, greek, thai, hebrew, arabic))


HANZI, LETTERS = "\u4e00-\u9fff", "\u0370-\u0e5b"
# Latin letters and others in one word: hardly ever in prose, often in what was read in a wrong encoding.
MIXED = re.compile(
    f"[A-Za-z][{HANZI}][a-z]|[a-z][{HANZI}](?![{HANZI}])|(?<![{HANZI}])[{HANZI}][a-z]|[a-z][{LETTERS}]|[{LETTERS}][a-z]"
)
