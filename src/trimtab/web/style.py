"""The one style sheet and the one script of every page; both stand inside the page itself."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;
--paper:#fbfaf7;--card:#fff;--ink:#14202b;--soft:#56636f;--line:#e3e0d8;--faint:#efece5;
--sea:#0b6a9e;--sea-soft:#0b6a9e24;--stone:#8b8377;--flare:#b8470b;--flare-soft:#d9691f33;--moss:#0b6a9e;
--h0:#eceae4;--h1:#e4eef4;--h2:#bcd8e8;--h3:#86b8d6;--h4:#f3b07a;--h5:#dd7128;--h6:#9d3603}
@media(prefers-color-scheme:dark){:root{
--paper:#0e151b;--card:#141d25;--ink:#e8edf1;--soft:#9aa8b5;--line:#263440;--faint:#1a252e;
--sea:#63bdf2;--sea-soft:#63bdf22e;--stone:#a39a8c;--flare:#ff9a5c;--flare-soft:#ff9a5c38;--moss:#63bdf2;
--h0:#1d262d;--h1:#1b2f3d;--h2:#25506c;--h3:#37799f;--h4:#8f4a17;--h5:#d0702a;--h6:#ffb27a}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth;scroll-padding-top:1rem}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main,header.top,footer{max-width:1120px;margin:0 auto;padding:0 28px}
header.top{padding-top:56px}
h1,h2,h3{line-height:1.2;font-weight:650;letter-spacing:-.012em;text-wrap:balance}
h1{font-size:clamp(1.7rem,4.4vw,2.7rem);margin:.35em 0 .4em;max-width:22em}
h2{font-size:1.4rem;margin:0 0 .35em}
h3{font-size:1rem;margin:1.6em 0 .6em}
.over{display:flex;flex-wrap:wrap;gap:.3em 1.2em;align-items:center;color:var(--soft);font-size:.9rem}
.brand{display:inline-flex;align-items:center;gap:.55em;color:var(--ink);font-weight:650;letter-spacing:.01em}
.brand svg{width:22px;height:22px;fill:none;stroke:var(--sea);stroke-width:2.2;stroke-linecap:round;
stroke-linejoin:round}
.lead{font-size:1.12rem;color:var(--soft);max-width:44em;margin:0 0 1.6em}
.lead b{color:var(--ink);font-weight:600}
section{padding:44px 0 8px;border-top:1px solid var(--line);margin-top:44px}
section>p{max-width:46em;color:var(--soft);margin:.2em 0 1.4em}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:1px;background:var(--line);
border:1px solid var(--line);border-radius:10px;overflow:hidden;margin:0}
.tiles div{background:var(--card);padding:16px 18px}
.tiles dt{font-size:.82rem;color:var(--soft)}
.tiles dd{margin:.1em 0 0;font-size:1.5rem;font-weight:620;letter-spacing:-.015em}
.tiles dd small{display:block;font-size:.82rem;font-weight:400;color:var(--soft);letter-spacing:0}
figure{margin:0 0 1.2em}
figcaption{color:var(--soft);font-size:.88rem;margin-top:.5em}
.legend{display:flex;flex-wrap:wrap;gap:.35em 1.4em;font-size:.88rem;color:var(--soft);margin:0 0 .7em;padding:0;
list-style:none}
.legend li{display:inline-flex;align-items:center;gap:.5em}
.icon{width:16px;height:16px;flex:none;overflow:visible;vertical-align:-.18em}
.plot{display:block;width:100%;height:auto;overflow:visible}
.plot text{fill:var(--ink);font-size:13px}
.plot .tick{fill:var(--soft);font-size:12px}.plot .axis{fill:var(--soft);font-size:12.5px}
.plot .name{font-weight:600}.mono{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.grid{stroke:var(--line);stroke-width:1}.base{stroke:var(--soft);stroke-width:1;opacity:.55}
.zero{stroke:var(--ink);stroke-width:1.2}.ideal{stroke:var(--soft);stroke-dasharray:2 4}
.line{fill:none;stroke-linejoin:round;stroke-linecap:round}
.line.frozen{stroke:var(--stone);stroke-width:2;stroke-dasharray:5 4}
.line.trimtab{stroke:var(--sea);stroke-width:2.6}
.better{fill:var(--sea-soft)}.worse{fill:var(--flare-soft)}
.dot{stroke:var(--paper);stroke-width:1.5}.dot.frozen{fill:var(--stone)}.dot.trimtab{fill:var(--sea)}
.dot.previous{fill:var(--paper);stroke:var(--sea);stroke-width:2}
.whisker{stroke-width:2;stroke-linecap:round}.whisker.trimtab{stroke:var(--sea)}
.whisker.previous{stroke:var(--sea);stroke-dasharray:1 4}
.bar{fill:var(--stone);opacity:.55}
.sign{stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.sign.open{fill:none}.good{stroke:var(--moss);fill:var(--moss)}.bad,.warn{stroke:var(--flare);fill:var(--flare)}
.quiet{stroke:var(--soft);fill:var(--soft)}.sign.open.good,.sign.open.bad,.sign.open.warn,.sign.open.quiet{fill:none}
.rule{stroke-width:1;opacity:.45}.rule.bad{stroke-dasharray:2 3}
.hit{fill:transparent;stroke:none}.hit.column:hover{fill:var(--ink);fill-opacity:.05}
.plot a{cursor:pointer}.plot a:focus-visible .hit{stroke:var(--ink);stroke-width:1.5}
.narrow{display:none}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:28px 36px}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch;margin:0 -4px;padding:0 4px}
table{border-collapse:collapse;font-size:.92rem;width:100%}
th,td{text-align:right;padding:.42em .7em;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child,th.words,td.words{text-align:left}
td.words{white-space:normal;min-width:14em}
thead th{font-weight:500;color:var(--soft);font-size:.84rem;vertical-align:bottom}
tbody th{font-weight:500}
tr.total>*{border-top:2px solid var(--line);border-bottom:0;font-weight:620}
.scroll th[scope=row]{position:sticky;left:0;background:var(--paper)}
.scroll tr.lost>*{background:linear-gradient(var(--flare-soft),var(--flare-soft)),var(--paper)}
.months thead tr:first-child .group{border-bottom-color:transparent;padding-bottom:0}
.months thead tr+tr th{text-align:right}.months .tag{margin-left:.7em}
.up{color:var(--sea)}.down{color:var(--flare)}
.tag{display:inline-block;font-size:.78rem;border:1px solid currentColor;border-radius:99px;padding:.05em .6em;
color:var(--flare);white-space:nowrap}
.tag.good{color:var(--sea);fill:none}.tag.quiet{color:var(--soft);fill:none}
details{margin:.6em 0}
summary{cursor:pointer;color:var(--soft);font-size:.9rem;border-radius:4px}
summary:hover{color:var(--ink)}
:focus-visible{outline:2px solid var(--sea);outline-offset:3px}
.heat{width:auto;font-size:.82rem}
.heat th,.heat td{padding:0;border:0}
.heat thead th{text-align:left;padding:0 0 4px 3px;font-weight:500}
.heat tbody th{position:sticky;left:0;z-index:1;background:var(--paper);padding-right:10px;max-width:22em;
overflow:hidden;text-overflow:ellipsis;font-weight:450;line-height:17px;height:18px}
.heat tbody td{width:17px;min-width:17px;max-width:17px;height:18px;font-size:0;color:transparent;
border:1px solid var(--paper);border-width:0 1px 1px 0;position:relative}
.heat tbody td.m{border-left-width:2px}
.heat tbody td:hover{outline:2px solid var(--ink);outline-offset:-2px;z-index:2}
.h0{background:repeating-linear-gradient(135deg,var(--h0) 0 2px,transparent 2px 4px)}
.h1{background:var(--h1)}.h2{background:var(--h2)}.h3{background:var(--h3)}
.h4{background:var(--h4)}.h5{background:var(--h5)}.h6{background:var(--h6)}
.heat .x::after{content:"";position:absolute;inset:0;margin:auto;width:5px;height:5px;border-radius:50%;
background:var(--paper)}
.heat tbody tr.first td{height:24px;border-bottom-width:6px}.heat tbody tr.first th{font-weight:650;height:24px;
border-bottom:6px solid var(--paper)}
.scale{display:inline-flex;vertical-align:middle}.scale i{width:22px;height:12px;display:block}
.scale b{width:2px;background:var(--ink);margin:-3px 1px}
.scale i.x{position:relative}.scale i.x::after{content:"";position:absolute;inset:0;margin:auto;width:5px;
height:5px;border-radius:50%;background:var(--paper)}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
ol.log{list-style:none;margin:0;padding:0}
ol.log>li{display:grid;grid-template-columns:8.6em 8.2em minmax(0,1fr);gap:.1em 1em;padding:.55em 0;
border-bottom:1px solid var(--line)}
ol.log>li:target{background:var(--sea-soft);box-shadow:0 0 0 6px var(--sea-soft);border-radius:2px}
ol.log time{color:var(--soft);font-size:.88rem;line-height:1.7}
ol.log .kind{display:inline-flex;gap:.55em;align-items:center;font-size:.92rem;height:1.6em}
ol.log details{margin:0}ol.log summary{color:inherit;font-size:inherit}ol.log summary::marker{color:var(--soft)}
ol.log dl{margin:.4em 0 .5em 1.1em}
dl.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15em 1.1em;font-size:.9rem;margin:0}
dl.facts dt{color:var(--soft)}dl.facts dd{margin:0;overflow-wrap:anywhere}
dl.facts dl.facts{padding-left:.2em}
.month{margin:1.6em 0 .2em;font-size:.92rem;color:var(--soft);font-weight:600}
.meter{display:block;height:8px;border-radius:2px;background:var(--stone);opacity:.6;min-width:1px}
td.gauge{width:40%;min-width:90px}
.digest{font-size:.84rem;overflow-wrap:anywhere}
.banner{border-left:4px solid var(--flare);background:var(--flare-soft);padding:.7em 1em;border-radius:0 6px 6px 0;
margin:0 0 1.4em}
footer{padding-top:36px;padding-bottom:60px;color:var(--soft);font-size:.88rem}
#tip{position:fixed;z-index:9;max-width:min(340px,86vw);background:var(--ink);color:var(--paper);font-size:.82rem;
line-height:1.45;padding:.5em .75em;border-radius:6px;white-space:pre-line;pointer-events:none}
#tip[hidden]{display:none}
@media(max-width:700px){main,header.top,footer{padding-left:18px;padding-right:18px}
header.top{padding-top:30px}section{padding-top:30px;margin-top:30px}
.wide{display:none}.narrow{display:block}
.tiles{grid-template-columns:1fr 1fr}.tiles div{padding:12px 14px}.tiles dd{font-size:1.25rem}
ol.log>li{grid-template-columns:auto 1fr}ol.log .what{grid-column:1/-1}
/* Long names differ at their end, so that is the end to keep. */
.heat tbody th{max-width:11em;font-size:.78rem;direction:rtl;text-align:left}}
@media print{.scroll{overflow:visible}details>*{display:block}section{break-inside:avoid-page}}
@media(prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
"""

SCRIPT = """
(()=>{const tip=document.createElement('div');tip.id='tip';tip.hidden=true;tip.setAttribute('aria-hidden','true');
document.body.append(tip);
const heat=td=>{const t=td.closest('table.heat');if(!t||td.tagName!=='TD'||td.closest('thead'))return;
const row=td.parentElement,line=td.dataset.alarm||row.dataset.alarm;
return row.firstElementChild.textContent+'\\nweek of '+t.dataset.weeks.split('|')[td.cellIndex-1]+'\\nPSI '
+td.textContent+(line?', alarm line '+line:'')};
const words=e=>{const s=e.target.closest&&e.target.closest('[data-tip],td');return s&&(s.dataset.tip||heat(s))};
const show=e=>{const w=words(e);tip.hidden=!w;if(!w)return;tip.textContent=w;
const b=tip.getBoundingClientRect(),x=e.clientX,y=e.clientY;
tip.style.left=Math.max(6,Math.min(x+14,innerWidth-b.width-6))+'px';
tip.style.top=(y+18+b.height>innerHeight?y-b.height-12:y+18)+'px'};
addEventListener('pointermove',show);addEventListener('pointerdown',show);
addEventListener('scroll',()=>{tip.hidden=true},{passive:true});
document.addEventListener('pointerleave',()=>{tip.hidden=true});
})();
"""
