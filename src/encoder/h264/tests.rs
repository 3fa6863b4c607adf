#![allow(clippy::unwrap_used)]
use super::*;
use crate::encoder::scenes;
const HD: Size = Size::new(1920, 1080);
fn load(f:&str)->I420{ use yuv::*; let b=std::fs::read(format!("/tmp/enc/{f}.ppm")).unwrap(); let b=&b[b.len()-1920*4320*3..]; let mut img=YuvPlanarImageMut::<u8>::alloc(1920,4320,YuvChromaSubsampling::Yuv420); rgb_to_yuv420(&mut img,b,1920*3,YuvRange::Limited,YuvStandardMatrix::Bt709,YuvConversionMode::Balanced).unwrap(); I420{size:Size::new(1920,4320),y:img.y_plane.borrow().to_vec(),u:img.u_plane.borrow().to_vec(),v:img.v_plane.borrow().to_vec()} }
fn enc(e:&mut H264Encoder,p:&I420,n:&mut u64,qp:u8,key:bool)->(usize,f32,f64){ *n+=33_000_000; let t=std::time::Instant::now(); let r=e.encode(p,MediaTime(*n),Order{qp:Qp(qp),keyframe:key,measure:std::env::var("PSNR").is_ok()}).unwrap(); let ms=t.elapsed().as_secs_f64()*1e3; match r{Some(u)=>{assert_eq!(u.keyframe,key);(u.data.len(),u.luma_psnr.unwrap_or(0.0),ms)},None=>(0,0.0,ms)}}
#[test] #[ignore]
fn explore(){
 for f in ["page","term"]{ let tall=load(f); let page=scenes::window(&tall,HD,0);
 let mut e=H264Encoder::new(HD,Bitrate(2_500_000),30).unwrap(); let mut n=0;
 for qp in [16u8,20,24,28,32,36,40]{ let r=enc(&mut e,&page,&mut n,qp,true); println!("{f} IDR qp {qp}: {r:?}"); }
 for path in [vec![36u8,32,28,24,22,20,20,20],vec![36,30,26,22,20,20],vec![36,28,22,22],vec![36,22,22],vec![36,24,24]]{ let mut tot=0; print!("path {f}:"); for (i,qp) in path.iter().enumerate(){ let r=enc(&mut e,&page,&mut n,*qp,i==0); tot+=r.0; print!(" {qp}:{}B {:.1}dB {:.1}ms",r.0,r.1,r.2);} println!(" total {tot}"); }
 let mut p=page.clone(); let mut d=scenes::Dice::new(5); print!("typing:"); for i in 0..8{ for k in 0..5{ scenes::glyph(&mut p,&mut d,1400+(i*5+k)*7,13*40);} let r=enc(&mut e,&p,&mut n,20,false); print!(" {}B {:.1}dB {:.1}ms",r.0,r.1,r.2);} println!();
 for step in [4usize,16,30,54,120]{ for qp in [22u8,28,34]{ enc(&mut e,&scenes::window(&tall,HD,0),&mut n,28,true); print!("scroll {step} qp {qp}:"); for i in 1..10{ let r=enc(&mut e,&scenes::window(&tall,HD,i*step),&mut n,qp,false); print!(" {}B {:.1}dB {:.1}ms",r.0,r.1,r.2);} println!(); }}
 for qp in [28u8,32,36,40]{ enc(&mut e,&scenes::window(&tall,HD,2400),&mut n,20,true); let r=enc(&mut e,&page,&mut n,qp,false); println!("slide P qp {qp} {r:?}"); }
 }}
#[test] #[ignore]
fn prof_typing(){ let tall=load("page"); let mut p=scenes::window(&tall,HD,0); let mut e=H264Encoder::new(HD,Bitrate(2_500_000),30).unwrap(); let mut n=0; let mut d=scenes::Dice::new(5); enc(&mut e,&p,&mut n,20,true); let t=std::time::Instant::now(); for i in 0..200{ for k in 0..5{ scenes::glyph(&mut p,&mut d,(i*5+k)%200*7+20,13*(40+i/40));} enc(&mut e,&p,&mut n,20,false);} println!("typing {:.2} ms",t.elapsed().as_secs_f64()*1e3/200.0);}
